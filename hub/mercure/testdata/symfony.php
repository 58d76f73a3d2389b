<?php
// What a site made with Symfony does, with the Mercure component as it is: makes the URL that a page's
// EventSource is given and the cookie for it, then publishes. Writes all that as JSON.
// HUB: the hub's URL. SECRET: what tokens are signed with. LAST: the id of the last event that the page knows.

require 'Symfony/Component/Mercure/autoload.php';
require 'Twig/autoload.php';

use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\RequestStack;
use Symfony\Component\Mercure\Authorization;
use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\HubRegistry;
use Symfony\Component\Mercure\Jwt\FactoryTokenProvider;
use Symfony\Component\Mercure\Jwt\TokenFactoryInterface;
use Symfony\Component\Mercure\Twig\MercureExtension;
use Symfony\Component\Mercure\Update;

// The component's own factory takes a JWT library that Debian doesn't have; this makes the same tokens.
final class Factory implements TokenFactoryInterface
{
    public function create(?array $subscribe = [], ?array $publish = [], array $claims = []): string
    {
        $claims['mercure'] = array_filter(['publish' => $publish, 'subscribe' => $subscribe], 'is_array');
        if (isset($claims['exp'])) {
            $claims['exp'] = $claims['exp']->getTimestamp();
        }
        $encode = fn (string $s) => rtrim(strtr(base64_encode($s), '+/', '-_'), '=');
        $text = $encode(json_encode(['typ' => 'JWT', 'alg' => 'HS256'])).'.'.$encode(json_encode($claims));
        return $text.'.'.$encode(hash_hmac('sha256', $text, getenv('SECRET'), true));
    }
}

$factory = new Factory();
$hub = new Hub(getenv('HUB'), new FactoryTokenProvider($factory, [], ['*']), $factory);
$registry = new HubRegistry($hub);
$request = Request::create(getenv('HUB'));
$stack = new RequestStack();
$stack->push($request);
$twig = new MercureExtension($registry, new Authorization($registry), $stack);

$url = $twig->mercure(['https://example.com/books/{id}', 'a topic & more'], [
    'subscribe' => ['https://example.com/books/{id}'],
    'lastEventId' => getenv('LAST'),
]);
$cookies = array_map(fn ($c) => $c->getName().'='.$c->getValue(), array_values($request->attributes->get('_mercure_authorization_cookies')));

$ids = [
    $hub->publish(new Update('https://example.com/books/1', json_encode(['status' => 'out of stock']))),
    $hub->publish(new Update('https://example.com/books/2', "private\nlines", true, 'urn:uuid:2', 'price', 3000)),
    $hub->publish(new Update('a topic & more', 'ä')),
];
try {
    $hub->publish(new Update(['a topic & more', 'another'], 'two topics'));
    $two = 'published';
} catch (Symfony\Component\Mercure\Exception\RuntimeException $e) {
    $two = $e->getPrevious()->getCode();
}
echo json_encode(['url' => $url, 'cookies' => $cookies, 'ids' => $ids, 'two' => $two]), "\n";

<?php
// php publish.php TOPIC DATA: publishes at the hub $HUB, with a token made of the key in the file $HUB_KEY.
// $HUB is the public URL, as "url" in tandem.toml has it.
$b64 = fn(string $s): string => rtrim(strtr(base64_encode($s), '+/', '-_'), '=');
$head = $b64(json_encode(['typ' => 'at+jwt', 'alg' => 'HS256']));
$body = $b64(json_encode([
    'aud' => getenv('HUB'),
    'exp' => time() + 60,
    'authorization_details' => [
        ['type' => 'mercure', 'actions' => ['publish'], 'topics' => [['match' => $argv[1]]]],
    ],
]));
$key = rtrim(file_get_contents(getenv('HUB_KEY')), "\r\n");
$token = "$head.$body." . $b64(hash_hmac('sha256', "$head.$body", $key, true));

$hub = fopen(getenv('HUB'), 'r', false, stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ["Authorization: Bearer $token", 'Content-Type: application/x-www-form-urlencoded'],
    'content' => http_build_query(['topic' => $argv[1], 'data' => $argv[2], 'private' => 'on']),
    'ignore_errors' => true,
]]));
$answer = $hub ? stream_get_contents($hub) : 'no answer';
if (!$hub || !str_contains(stream_get_meta_data($hub)['wrapper_data'][0], ' 200')) {
    fwrite(STDERR, "not published: $answer\n");
    exit(1);
}
echo "$answer\n"; // the event's id

#!/usr/bin/env php
<?php
// The chat program of docs/programs.md, in PHP (the command line one, php-cli).
// Output: echo writes at once there. php-cgi and php-fpm hold it back, and
// write a header: they are the wrong program here.
$name = getenv('REMOTE_USER') ?: 'guest';
$n = 0;

echo "Hello, $name. Say something; /quit ends.\n";
while (($line = fgets(STDIN)) !== false) {
    $line = rtrim($line, "\n"); // and nothing else: "\r" is data
    if ($line === '/quit') {
        break;
    }
    $n++;
    echo "$n: $line\n";
}
echo "Bye, $name, after $n.\n";

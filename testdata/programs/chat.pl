#!/usr/bin/env perl
# The chat program of docs/programs.md, in Perl.
# Output: $| = 1 flushes stdout after each print.
use strict;
use warnings;

$| = 1;
my $name = $ENV{REMOTE_USER} // 'guest';
my $n    = 0;

print "Hello, $name. Say something; /quit ends.\n";
while (defined(my $line = <STDIN>)) {
    chomp $line;
    last if $line eq '/quit';
    $n++;
    print "$n: $line\n";
}
print "Bye, $name, after $n.\n";

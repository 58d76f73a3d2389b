#!/usr/bin/perl
# publish.pl TOPIC DATA: publishes at the hub $HUB, with a token made of the key in the file $HUB_KEY.
# $HUB is the public URL, as "url" in tandem.toml has it.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256);
use Encode qw(decode_utf8);
use HTTP::Tiny; # for https also IO::Socket::SSL
use JSON::PP qw(encode_json);
use MIME::Base64 qw(encode_base64url);

my ($topic, $data) = map { decode_utf8($_) } @ARGV;
my $head = encode_base64url(encode_json({ typ => 'at+jwt', alg => 'HS256' }));
my $body = encode_base64url(encode_json({
    aud => $ENV{HUB},
    exp => time + 60,
    authorization_details => [
        { type => 'mercure', actions => ['publish'], topics => [{ match => $topic }] },
    ],
}));
open my $file, '<', $ENV{HUB_KEY} or die "$ENV{HUB_KEY}: $!\n";
(my $key = <$file>) =~ s/[\r\n]+$//;
my $sign = encode_base64url(hmac_sha256("$head.$body", $key));

my $answer = HTTP::Tiny->new->post_form(
    $ENV{HUB},
    { topic => $topic, data => $data, private => 'on' },
    { headers => { Authorization => "Bearer $head.$body.$sign" } },
);
die "not published: $answer->{status}: $answer->{content}\n" unless $answer->{success};
print "$answer->{content}\n"; # the event's id

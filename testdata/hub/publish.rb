#!/usr/bin/env ruby
# publish.rb TOPIC DATA: publishes at the hub $HUB, with a token made of the key in the file $HUB_KEY.
# $HUB is the public URL, as "url" in tandem.toml has it.
require "json"
require "net/http"
require "openssl"

hub, (topic, data) = ENV.fetch("HUB"), ARGV
b64 = ->(s) { [s].pack("m0").tr("+/", "-_").delete("=") }
head = b64.(JSON.generate({ typ: "at+jwt", alg: "HS256" }))
body = b64.(JSON.generate({
  aud: hub,
  exp: Time.now.to_i + 60,
  authorization_details: [
    { type: "mercure", actions: ["publish"], topics: [{ match: topic }] },
  ],
}))
key = File.read(ENV.fetch("HUB_KEY")).chomp
token = "#{head}.#{body}.#{b64.(OpenSSL::HMAC.digest("SHA256", key, "#{head}.#{body}"))}"

answer = Net::HTTP.post(URI(hub),
                        URI.encode_www_form(topic: topic, data: data, private: "on"),
                        "Authorization" => "Bearer #{token}",
                        "Content-Type" => "application/x-www-form-urlencoded")
abort "not published: #{answer.code}: #{answer.body}" unless answer.is_a?(Net::HTTPOK)
puts answer.body # the event's id

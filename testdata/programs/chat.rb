#!/usr/bin/env ruby
# The chat program of docs/programs.md, in Ruby.
# Output: sync = true writes each puts at once.
$stdout.sync = true
name = ENV.fetch('REMOTE_USER', 'guest')
n = 0

puts "Hello, #{name}. Say something; /quit ends."
while (line = $stdin.gets)
  line = line.delete_suffix("\n") # chomp would take a carriage return too
  break if line == '/quit'

  n += 1
  puts "#{n}: #{line}"
end
puts "Bye, #{name}, after #{n}."

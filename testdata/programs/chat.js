#!/usr/bin/env node
// The chat program of docs/programs.md, in JavaScript for Node.
// Output: on pipes process.stdout writes at once. Don't call process.exit: let
// the program come to its end. Input: comes in pieces that don't care for
// lines. The module readline would make lines of it, but takes a carriage
// return for a line's end.
'use strict';

const name = process.env.REMOTE_USER || 'guest';
let n = 0;

function say(text) {
  process.stdout.write(text + '\n');
}

async function* lines(stream) {
  let rest = '';
  for await (const piece of stream.setEncoding('utf8')) {
    const found = (rest + piece).split('\n');
    rest = found.pop();
    yield* found;
  }
}

async function chat() {
  say(`Hello, ${name}. Say something; /quit ends.`);
  for await (const line of lines(process.stdin)) {
    if (line === '/quit') break;
    n++;
    say(`${n}: ${line}`);
  }
  say(`Bye, ${name}, after ${n}.`);
}

chat();

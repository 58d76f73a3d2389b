#!/usr/bin/env node
// publish.mjs TOPIC DATA: publishes at the hub $HUB, with a token made of the key in the file $HUB_KEY.
// $HUB is the public URL, as "url" in tandem.toml has it. Node 18 or later.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const { HUB, HUB_KEY } = process.env;
const [topic, data] = process.argv.slice(2);
const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const unsigned = b64({ typ: "at+jwt", alg: "HS256" }) + "." + b64({
  aud: HUB,
  exp: Math.floor(Date.now() / 1000) + 60,
  authorization_details: [
    { type: "mercure", actions: ["publish"], topics: [{ match: topic }] },
  ],
});
const key = readFileSync(HUB_KEY, "utf8").replace(/[\r\n]+$/, "");
const token = unsigned + "." + createHmac("sha256", key).update(unsigned).digest("base64url");

const answer = await fetch(HUB, {
  method: "POST",
  headers: { Authorization: "Bearer " + token },
  body: new URLSearchParams({ topic, data, private: "on" }),
});
const text = await answer.text();
if (!answer.ok) {
  console.error(`not published: ${answer.status}: ${text}`);
  process.exit(1);
}
console.log(text); // the event's id

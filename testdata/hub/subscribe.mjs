#!/usr/bin/env node
// subscribe.mjs TOPIC: prints the events of the hub $HUB, with the token $TOKEN if there is one. Where the connection is
// lost it goes on behind the last event. Node 18 or later. (Browsers have all this in EventSource.)
const { HUB, TOKEN } = process.env;
const url = HUB + "?" + new URLSearchParams({ match: process.argv[2] });
let last = process.env.LAST_EVENT_ID ?? "";

async function stream() {
  const headers = { Accept: "text/event-stream" };
  if (TOKEN) headers.Authorization = "Bearer " + TOKEN;
  if (last) headers["Last-Event-ID"] = last;
  const answer = await fetch(url, { headers });
  if (answer.status >= 400 && answer.status < 500) {
    console.error(`refused: ${answer.status}: ${await answer.text()}`);
    process.exit(1);
  }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  let rest = "", id = "", data = [];
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const value = line.slice(line.indexOf(":") + 1).replace(/^ /, "");
      if (line.startsWith("id:")) id = value;
      else if (line.startsWith("data:")) data.push(value);
      else if (line === "" && id) {
        console.log(id, data.join("\n"));
        last = id;
        [id, data] = ["", []];
      }
    }
  }
}

for (;;) {
  await stream().catch((error) => console.error(`lost: ${error.message}`));
  await new Promise((resolve) => setTimeout(resolve, 1000 + 1000 * Math.random()));
}

// Subscribes with the npm package eventsource, and writes what comes as lines of JSON:
// node eventsource.cjs URL [COOKIE]
const EventSource = require("eventsource");
const [url, cookie] = process.argv.slice(2);
const source = new EventSource(url, { headers: cookie ? { Cookie: cookie } : {}, withCredentials: true });
const tell = (o) => console.log(JSON.stringify(o));
source.onopen = () => tell({ type: "open" });
for (const type of ["message", "price"]) {
  source.addEventListener(type, (e) => tell({ type: e.type, id: e.lastEventId, data: e.data }));
}

// What both demo pages have: the connection's state, what carries a session and how fast, and a way to cut it.

export const $ = (id) => document.getElementById(id);
export const endpoint = location.pathname + location.search;
const SPAN = 60; // round trips that the chart shows, one a second

let t; // the session that is shown
let note = () => {}; // of the page: writes a line
let losses = 0, lostAt = 0, lostFor = 0;
const trips = []; // ms, or undefined while there is no connection

// ---- the path, which can be cut

const path = { cut: false, requests: new Set() };

/** wire is fetch, until the user cuts it. */
export async function wire(url, init = {}) {
  init.signal?.throwIfAborted();
  if (path.cut) throw new TypeError("the connection is cut");
  const stop = new AbortController();
  init.signal?.addEventListener("abort", () => {
    stop.abort(init.signal.reason);
    path.requests.delete(stop);
  });
  path.requests.add(stop);
  return fetch(url, { ...init, signal: stop.signal });
}

function cut(yes) {
  path.cut = yes;
  $("cut").setAttribute("aria-pressed", yes);
  $("cut").textContent = yes ? "Mend the connection" : "Cut the connection";
  if (yes) {
    note("you cut the connection: nothing gets through, the other side runs on");
    for (const r of path.requests) r.abort(new TypeError("the connection is cut"));
    path.requests.clear();
  } else {
    note("you mended the connection");
    dispatchEvent(new Event("online")); // as the browser does when the network is back
  }
}

// ---- the state

export function state(name, text) {
  $("state").dataset.state = name;
  $("state-text").textContent = text;
}

/** speak tells those who listen to the page: of changes of state, not of each message. */
export function speak(text) {
  $("spoken").textContent = text;
}

/** stamp is the time, as an element. */
export function stamp(now = new Date()) {
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = now.toTimeString().slice(0, 8) + "." + String(now.getMilliseconds()).padStart(3, "0");
  return time;
}

const wording = {
  batch: "a request for each batch",
  stream: "one long request",
  split: "split: one streamed response",
  poll: "poll: one answer at a time",
};

/** options are a session's, as the user wants them. */
export const options = () => ({ fetch: wire, ...($("choice").value && { transport: $("choice").value }) });

/** forget shows no session. */
export function forget() {
  t = undefined;
  losses = lostAt = lostFor = 0;
  trips.length = 0;
  $("transport").textContent = $("upload").textContent = "–";
  $("recovered").textContent = "never lost";
  draw();
}

/** follow shows a session that is being opened. say writes a line. */
export function follow(session, say) {
  const s = (t = session);
  note = say;
  lostAt = 0;
  state("connecting", "connecting");
  const opening = performance.now();
  const on = (type, act) => s.addEventListener(type, (e) => s === t && act(e));
  on("open", () => {
    state("open", "open");
    note(`the session is open, after ${(performance.now() - opening).toFixed(0)} ms`);
    speak("The session is open.");
  });
  on("transport", (e) => {
    $("transport").textContent = wording[e.transport] ?? "–";
    $("upload").textContent = wording[e.upload] ?? "–";
  });
  on("error", (e) => {
    note(e.message, true);
    if (s.readyState === 0) state("connecting", "can't connect, trying again");
  });
  on("lost", (e) => {
    lostAt = performance.now();
    losses++;
    note(`the connection is lost: ${e.reason}`, true);
    speak("The connection is lost. It is being resumed.");
  });
  on("resumed", () => {
    const ms = performance.now() - lostAt;
    lostFor += ms;
    lostAt = 0;
    state("open", "open");
    $("recovered").textContent = `${losses === 1 ? "once" : losses + " times"}, ${(lostFor / 1000).toFixed(1)} s`;
    note(`the session goes on after ${(ms / 1000).toFixed(1)} s, nothing was lost`);
    speak("The session goes on. Nothing was lost.");
  });
  on("close", (e) => {
    lostAt = 0;
    const why = `${e.code}${e.reason ? ", " + e.reason : ""}`;
    state("closed", "closed");
    note(`closed: ${why}`, e.code !== 1000);
    speak(`The session is closed: ${why}.`);
  });
}

// ---- the chart

function draw() {
  const known = trips.filter((ms) => ms !== undefined);
  let top = 1; // the next of 1, 2, 5, 10, … ms
  const most = Math.max(...known, 1) * 1.1;
  for (let i = 0; top < most; i++) top *= [2, 2.5, 2][i % 3];
  const x = (i) => ((SPAN - trips.length + i) / (SPAN - 1)) * 240;
  const y = (ms) => 80 - (ms / top) * 76;
  let line = "", area = "", start;
  const gaps = [];
  trips.forEach((ms, i) => {
    if (ms === undefined) {
      gaps.push(`${x(i) - 2.04},4.08`);
      start = undefined;
      return;
    }
    const at = `${x(i).toFixed(1)} ${y(ms).toFixed(1)}`;
    line += (start === undefined ? "M" : "L") + at;
    if (start === undefined) area += `M${x(i).toFixed(1)} 80`;
    area += "L" + at;
    if (trips[i + 1] === undefined) area += `L${x(i).toFixed(1)} 80Z`;
    start = i;
  });
  $("line").setAttribute("d", line);
  $("area").setAttribute("d", area);
  $("gaps").replaceChildren(...gaps.map((g) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const [left, width] = g.split(",");
    for (const [k, v] of Object.entries({ x: left, y: 0, width, height: 80 })) rect.setAttribute(k, v);
    return rect;
  }));
  $("top").textContent = known.length ? `0 to ${top} ms` : "";
  const last = trips.at(-1);
  $("rtt").textContent = last === undefined ? "–" : `${last < 10 ? last.toFixed(1) : last.toFixed(0)} ms`;
}

let waiting = false;
setInterval(() => {
  if (document.hidden || t?.readyState !== 1) return;
  if (waiting || lostAt) {
    if (lostAt) trips.push(undefined);
  } else {
    const s = t, before = losses;
    waiting = true;
    s.ping().then((ms) => s === t && losses === before && trips.push(ms), () => {}).finally(() => (waiting = false));
  }
  while (trips.length > SPAN) trips.shift();
  draw();
}, 1000);
setInterval(() => {
  if (lostAt) state("lost", `lost for ${((performance.now() - lostAt) / 1000).toFixed(1)} s, resuming`);
}, 100);

$("endpoint").textContent = location.host + endpoint;
$("cut").addEventListener("click", () => cut(!path.cut));

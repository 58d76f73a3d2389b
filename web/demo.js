// The demo page: a session as a terminal shows it, and what carries it.

const here = new URL(import.meta.url);
const { Tandem } = await import(new URL("?tandem.js", here).href);

const $ = (id) => document.getElementById(id);
const endpoint = location.pathname + location.search;
const MOST = 1000; // lines that are kept
const SPAN = 60; // round trips that the chart shows, one a second

let t; // the session
let sent = 0, got = 0, losses = 0, lostAt = 0, lostFor = 0;
let reopening;
let said = []; // lines that were sent, the newest last, until they have arrived
const typed = []; // for the arrow keys
let typedAt = 0;
const trips = []; // ms, or undefined while there is no connection

// ---- the path, which can be cut

const path = { cut: false, requests: new Set() };

/** wire is fetch, until the user cuts it. */
async function wire(url, init) {
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
    note("you cut the connection: nothing gets through, the program runs on");
    for (const r of path.requests) r.abort(new TypeError("the connection is cut"));
    path.requests.clear();
  } else {
    note("you mended the connection");
    dispatchEvent(new Event("online")); // as the browser does when the network is back
  }
}

// ---- the transcript

let scrolling = false; // to the newest line, with the next frame: a burst is laid out once

function line(kind, way, text) {
  const log = $("log");
  if (!scrolling) {
    scrolling = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    if (!scrolling) $("latest").hidden = false; // who reads further up stays there
    else requestAnimationFrame(() => {
      scrolling = false;
      log.scrollTop = log.scrollHeight;
    });
  }
  const item = document.createElement("li");
  item.className = kind;
  const now = new Date();
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = now.toTimeString().slice(0, 8) + "." + String(now.getMilliseconds()).padStart(3, "0");
  const arrow = document.createElement("span");
  arrow.className = "way";
  arrow.textContent = way;
  arrow.setAttribute("aria-label", { "→": "sent", "←": "received" }[way] ?? "event");
  const what = document.createElement("span");
  what.className = "what";
  what.textContent = text;
  item.append(time, arrow, what);
  log.append(item);
  while (log.childElementCount > MOST) log.firstElementChild.remove();
  return item;
}

const note = (text, bad) => line(bad ? "event bad" : "event", "·", text);

function show(data) {
  if (typeof data === "string") return data.replace(/\n$/, "");
  const bytes = new Uint8Array(data);
  const some = Array.from(bytes.subarray(0, 24), (b) => b.toString(16).padStart(2, "0")).join(" ");
  return `${bytes.length} bytes: ${some}${bytes.length > 24 ? " …" : ""}`;
}

function send(text) {
  t.send(text);
  said.push({ item: line("out waits", "→", text), size: new TextEncoder().encode(text).length });
  sent++;
  update();
}

/** settle shows which lines have arrived: all but the last ones that are still buffered. */
function settle() {
  let waits = t.readyState < 3 ? t.bufferedAmount : 0;
  let n = said.length;
  for (; n > 0 && waits > 0; n--) waits -= said[n - 1].size;
  if (t.readyState === 3) return;
  for (const { item } of said.splice(0, n)) item.classList.remove("waits");
}

// ---- the state

function state(name, text) {
  $("state").dataset.state = name;
  $("state-text").textContent = text;
}

/** speak tells those who listen to the page: of changes of state, not of each message. */
function speak(text) {
  $("spoken").textContent = text;
}

function update() {
  settle();
  $("sent").textContent = sent;
  $("got").textContent = got;
  const n = said.length;
  $("waiting").textContent = n ? `${n} line${n > 1 ? "s" : ""}` : "nothing";
  if (lostAt) state("lost", `lost for ${((performance.now() - lostAt) / 1000).toFixed(1)} s, resuming`);
  const open = t.readyState < 2;
  $("close").disabled = !open;
  $("burst").disabled = $("prompt").querySelector("button").disabled = !open;
  $("open").textContent = open ? "Open another in its place" : "Open";
}

const wording = {
  batch: "a request for each batch",
  stream: "one long request",
  split: "split: one streamed response",
  poll: "poll: one answer at a time",
};

function openSession() {
  clearTimeout(reopening);
  if (t && t.readyState < 2) t.close();
  const options = { fetch: wire };
  if ($("choice").value) options.transport = $("choice").value;
  if ($("shared").checked) options.shared = "demo";
  const s = (t = new Tandem(endpoint, options));
  s.binaryType = "arraybuffer";
  said = [];
  sent = got = losses = lostAt = lostFor = 0;
  trips.length = 0;
  $("transport").textContent = $("upload").textContent = "–";
  $("recovered").textContent = "never lost";
  state("connecting", "connecting");
  const opening = performance.now();
  const on = (type, act) => s.addEventListener(type, (e) => {
    if (s !== t) return;
    act(e);
    update();
  });
  on("open", () => {
    state("open", "open");
    note(`the session is open, after ${(performance.now() - opening).toFixed(0)} ms`);
    speak("The session is open.");
  });
  on("message", (e) => {
    got++;
    line("in", "←", show(e.data));
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
    const missing = s.unacked.length;
    note(`closed: ${why}${missing && !e.wasClean ? `; ${missing} messages may not have arrived` : ""}`, e.code !== 1000);
    speak(`The session is closed: ${why}.`);
    if (e.retry) {
      const wait = e.retry * (1 + Math.random());
      note(`the server asks to come back: a new session in ${(wait / 1000).toFixed(1)} s`);
      reopening = setTimeout(openSession, wait);
    }
  });
  update();
}

// ---- the chart

function draw() {
  const known = trips.filter((ms) => ms !== undefined);
  let top = 1; // the next of 1, 2, 5, 10, … ms
  const most = Math.max(...known, 1) * 1.1;
  for (let i = 0; top < most; i++) top *= [2, 2.5, 2][i % 3];
  const x = (i) => ((SPAN - trips.length + i) / (SPAN - 1)) * 240;
  const y = (ms) => 80 - (ms / top) * 76;
  let path = "", area = "", start;
  const gaps = [];
  trips.forEach((ms, i) => {
    if (ms === undefined) {
      gaps.push(`${x(i) - 2.04},4.08`);
      start = undefined;
      return;
    }
    const at = `${x(i).toFixed(1)} ${y(ms).toFixed(1)}`;
    path += (start === undefined ? "M" : "L") + at;
    if (start === undefined) area += `M${x(i).toFixed(1)} 80`;
    area += "L" + at;
    if (trips[i + 1] === undefined) area += `L${x(i).toFixed(1)} 80Z`;
    start = i;
  });
  $("line").setAttribute("d", path);
  $("area").setAttribute("d", area);
  $("gaps").replaceChildren(...gaps.map((g) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const [left, width] = g.split(",");
    for (const [k, v] of Object.entries({ x: left, y: 0, width, height: 80 })) rect.setAttribute(k, v);
    return rect;
  }));
  $("top").textContent = `0 to ${top} ms`;
  const last = trips.at(-1);
  $("rtt").textContent = last === undefined ? "–" : `${last < 10 ? last.toFixed(1) : last.toFixed(0)} ms`;
}

let waiting = false;
setInterval(() => {
  if (document.hidden || t.readyState !== 1) return;
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
setInterval(update, 100);

// ---- what the user does

$("endpoint").textContent = location.host + endpoint;
$("prompt").addEventListener("submit", (e) => {
  e.preventDefault();
  const text = $("text").value;
  if (t.readyState > 1) return;
  if (text && typed.at(-1) !== text) typed.push(text);
  typedAt = typed.length;
  $("text").value = "";
  send(text);
  $("log").scrollTop = $("log").scrollHeight;
});
$("text").addEventListener("keydown", (e) => {
  if (e.key !== "ArrowUp" && e.key !== "ArrowDown") return;
  e.preventDefault();
  typedAt = Math.max(0, Math.min(typed.length, typedAt + (e.key === "ArrowUp" ? -1 : 1)));
  $("text").value = typed[typedAt] ?? "";
});
$("log").addEventListener("scroll", () => {
  const log = $("log");
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) $("latest").hidden = true;
});
new ResizeObserver(() => $("latest").hidden && ($("log").scrollTop = $("log").scrollHeight)).observe($("log"));
$("latest").addEventListener("click", () => {
  $("log").scrollTop = $("log").scrollHeight;
  $("text").focus();
});
$("cut").addEventListener("click", () => cut(!path.cut));
$("burst").addEventListener("click", () => {
  for (let i = 1; i <= 100; i++) send(`line ${i}`);
});
$("close").addEventListener("click", () => t.close(1000, "closed by the user"));
$("open").addEventListener("click", openSession);

openSession();

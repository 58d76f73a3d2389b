// The demo page: a session as a terminal shows it, and what carries it.

const here = new URL(import.meta.url);
const [{ Tandem }, { $, endpoint, follow, forget, options, stamp }] = await Promise.all(["?tandem.js", "?panel.js"].map((name) => import(new URL(name, here).href)));

const MOST = 1000; // lines that are kept

let t; // the session
let sent = 0, got = 0;
let reopening;
let said = []; // lines that were sent, the newest last, until they have arrived
const typed = []; // for the arrow keys
let typedAt = 0;

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
  const arrow = document.createElement("span");
  arrow.className = "way";
  arrow.textContent = way;
  arrow.setAttribute("aria-label", { "→": "sent", "←": "received" }[way] ?? "event");
  const what = document.createElement("span");
  what.className = "what";
  what.textContent = text;
  item.append(stamp(), arrow, what);
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

function update() {
  settle();
  $("sent").textContent = sent;
  $("got").textContent = got;
  const n = said.length;
  $("waiting").textContent = n ? `${n} line${n > 1 ? "s" : ""}` : "nothing";
  const open = t.readyState < 2;
  $("close").disabled = !open;
  $("burst").disabled = $("prompt").querySelector("button").disabled = !open;
  $("open").textContent = open ? "Open another in its place" : "Open";
}

function openSession() {
  clearTimeout(reopening);
  if (t && t.readyState < 2) t.close();
  forget();
  const s = (t = new Tandem(endpoint, { ...options(), ...($("shared").checked && { shared: "demo" }) }));
  s.binaryType = "arraybuffer";
  said = [];
  sent = got = 0;
  follow(s, note);
  s.addEventListener("message", (e) => {
    if (s !== t) return;
    got++;
    line("in", "←", show(e.data));
    update();
  });
  s.addEventListener("close", (e) => {
    if (s !== t) return;
    const missing = s.unacked.length;
    if (missing && !e.wasClean) note(`${missing} messages may not have arrived`, true);
    if (e.retry) {
      const wait = e.retry * (1 + Math.random());
      note(`the server asks to come back: a new session in ${(wait / 1000).toFixed(1)} s`);
      reopening = setTimeout(openSession, wait);
    }
    update();
  });
  update();
}

setInterval(update, 100);

// ---- what the user does

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
$("burst").addEventListener("click", () => {
  for (let i = 1; i <= 100; i++) send(`line ${i}`);
});
$("close").addEventListener("click", () => t.close(1000, "closed by the user"));
$("open").addEventListener("click", openSession);

openSession();

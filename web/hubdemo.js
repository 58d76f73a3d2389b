// The demo page of a hub: what is published, who listens, and a way to publish. What it is subscribed to is in the
// URL's fragment, so that a reload shows the same.

const here = new URL(import.meta.url);
const [{ Tandem }, { Hub }, { Mercure }, { $, endpoint, follow, forget, options, speak, stamp, state, wire }] = await Promise.all(
  ["?tandem.js", "?hub.js", "?mercure.js", "?panel.js"].map((name) => import(new URL(name, here).href)));

const MOST = 1000; // events that are kept
const LONGEST = 2000; // characters of data that are shown
const LOOK = 5000; // ms between looks who is there
const PRESENT = 50; // subscriptions that are listed

let feed; // a Hub, or Mercure
let got = 0;
const wanted = new URLSearchParams(location.hash.slice(1));
const chips = { topics: new Set(wanted.getAll("topic")), patterns: new Set(wanted.getAll("pattern")) };
if (!wanted.has("topic") && !wanted.has("pattern")) chips.topics.add("*");

const make = (name, className, text = "") => Object.assign(document.createElement(name), { className, textContent: text });
const said = (e) => [e.code && `${e.code}: `, e.message, e.do && `. What to do: ${e.do}.`].filter(Boolean).join("");

// ---- the list. What comes waits for the next frame, and no more of it than the list will hold.

let arrived = [];
let missed = 0; // that came while paused
let drawing = false;
let paused = false;

function add(item) {
  arrived.push(item);
  if (arrived.length > 2 * MOST) arrived = arrived.slice(-MOST);
  if (paused) missed += item.event ? 1 : 0;
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function draw() {
  drawing = false;
  $("got").textContent = got;
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (paused) {
    count();
    return;
  }
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(...arrived.slice(-MOST).map(row));
  arrived = [];
  while (log.childElementCount > MOST) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  else $("latest").hidden = false; // who reads further up stays there
  count();
}

function row({ event, at, text, bad }) {
  if (!event) {
    const item = make("li", bad ? "note bad" : "note");
    item.append(stamp(at), make("span", "what", text));
    return item;
  }
  const item = make("li", "item");
  const data = event.data.length > LONGEST ? `${event.data.slice(0, LONGEST)} … (${event.data.length} characters)` : event.data;
  const topic = make("span", "topic", event.topic ?? "–");
  topic.title = event.topic ?? "EventSource doesn't tell the topic";
  const id = make("button", "id", event.id);
  id.type = "button";
  id.tabIndex = -1; // a thousand stops would be in the way: with the keyboard an id is typed
  id.title = `${event.id}: read the history from here`;
  const type = make("span", "type", [event.type, event.private && "private"].filter(Boolean).join(", "));
  item.append(stamp(at), topic, type, make("span", "what", data), id);
  item.hidden = !passes(item);
  return item;
}

function passes(item) {
  const filter = $("filter").value.toLowerCase();
  return !filter || !item.classList.contains("item") || [...item.children].slice(1).some((c) => c.textContent.toLowerCase().includes(filter));
}

function count() {
  const all = $("log").querySelectorAll(".item").length;
  const shown = $("filter").value ? `${$("log").querySelectorAll(".item:not([hidden])").length} of ${all}` : `${all}`;
  $("count").textContent = paused ? `${shown} shown, ${missed} wait` : `${shown} shown`;
}

const note = (text, bad) => add({ at: new Date(), text, bad });

// ---- the feed

function remember() {
  const p = new URLSearchParams();
  for (const t of chips.topics) p.append("topic", t);
  for (const t of chips.patterns) p.append("pattern", t);
  if ($("from").value) p.set("from", $("from").value);
  if ($("from").value === "after") p.set("after", $("after").value);
  if ($("way").value) p.set("way", $("way").value);
  history.replaceState(null, "", "#" + p);
}

/** begin starts anew, as the page says. */
function begin() {
  feed?.close();
  forget();
  remember();
  got = 0;
  arrived = [];
  $("log").replaceChildren();
  $("refused").textContent = $("answer").textContent = "";
  $("complete").className = "answer";
  $("complete").textContent = "–";
  const session = !$("way").value;
  $("choice").disabled = $("cut").disabled = !session;
  $("types").disabled = session;
  $("after").disabled = $("from").value !== "after";
  const from = { after: $("from").value === "after" ? $("after").value : "", earliest: $("from").value === "earliest" };
  const f = (feed = session ? overSession(from) : overEventSource(from));
  let times = 0;
  const on = (type, act) => f.addEventListener(type, (e) => f === feed && act(e.detail));
  on("event", (event) => {
    got++;
    add({ at: new Date(), event });
  });
  on("gap", () => lacking("Events are missing here: the hub has them no more."));
  on("subscribed", ({ recovered }) => {
    times++;
    const what = times === 1 && !from.after && !from.earliest ? "Subscribed, with new events." : "Subscribed; nothing is missing.";
    if (recovered) complete(what);
    else lacking("The history doesn't reach back so far: what it has follows.");
  });
  on("close", (e) => {
    note(`the hub is closed: ${said(e)}`, true);
    absent(said(e));
  });
  subscribe(f);
  look(f);
}

async function subscribe(f) {
  const what = { topics: [...chips.topics], patterns: [...chips.patterns] };
  if (what.topics.length + what.patterns.length === 0) return;
  try {
    await f.subscribe(what);
    look(f);
  } catch (e) {
    if (f === feed) $("refused").textContent = said(e);
  }
}

function complete(text) {
  $("complete").className = "answer";
  $("complete").textContent = text;
  note(text);
}

function lacking(text) {
  $("complete").className = "answer bad";
  $("complete").textContent = text;
  note(text, true);
  speak(text);
}

function overSession(from) {
  let over = false;
  const hub = new Hub(() => {
    const s = new Tandem(endpoint, options());
    follow(s, note);
    // The hub hears of it after this.
    s.addEventListener("close", () => setTimeout(() => hub === feed && !over && state("connecting", "a new session follows")));
    return s;
  }, from);
  hub.addEventListener("close", () => (over = true));
  return hub;
}

function overEventSource(from) {
  const f = new Mercure(endpoint, { ...from, types: $("types").value.split(/[\s,]+/).filter(Boolean), fetch: wire });
  const on = (type, name, text, bad) => f.addEventListener(type, () => {
    if (f !== feed) return;
    state(name, text);
    note(`EventSource: ${text}`, bad);
    speak(`EventSource: ${text}.`);
  });
  on("open", "open", "open");
  on("lost", "lost", "lost, connecting again", true);
  on("idle", "closed", "no topics");
  on("refused", "closed", "refused, or given up", true);
  state("connecting", "connecting");
  $("transport").textContent = "EventSource";
  $("upload").textContent = "a POST for each";
  $("complete").textContent = "EventSource doesn't tell whether events are missing.";
  return f;
}

// ---- topics

function show() {
  $("chips").replaceChildren(...["topics", "patterns"].flatMap((kind) => [...chips[kind]].map((match) => {
    const item = make("li", kind);
    const remove = make("button", "", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Unsubscribe from ${match}`);
    remove.addEventListener("click", () => leave(kind, match));
    item.append(make("span", "", match), remove);
    return item;
  })));
}

async function join(kind, match) {
  const f = feed;
  $("refused").textContent = "";
  if (chips[kind].has(match)) return;
  chips[kind].add(match);
  show();
  remember();
  try {
    await f.subscribe({ [kind]: [match] });
    look(f);
  } catch (e) {
    chips[kind].delete(match);
    show();
    remember();
    $("refused").textContent = `${match}: ${said(e)}`;
  }
}

async function leave(kind, match) {
  const f = feed;
  const at = [...$("chips").children].findIndex((c) => c.contains(document.activeElement));
  chips[kind].delete(match);
  show();
  remember();
  if (at >= 0) ($("chips").children[Math.min(at, $("chips").childElementCount - 1)]?.querySelector("button") ?? $("match")).focus();
  try {
    await f.unsubscribe({ [kind]: [match] });
    look(f);
  } catch (e) {
    $("refused").textContent = said(e);
  }
}

// ---- who is there: asked again and again, as the events about it are for those alone who have a token

let looking;
let looks = 0;
let lastSeen = "";

async function look(f) {
  clearTimeout(looking);
  if (f !== feed || document.hidden) return;
  const mine = ++looks;
  let again = true;
  try {
    const list = await f.presence();
    if (f === feed) present(list);
  } catch (e) {
    if (f === feed) absent(said(e));
    again = !["forbidden", "closed", "401", "403", "404"].includes(e.code);
  }
  if (again && f === feed && mine === looks) looking = setTimeout(() => look(f), LOOK);
}

function present(list) {
  const lines = list.map((m) => [m.match, m.subscriber]).sort((a, b) => (a.join(" ") < b.join(" ") ? -1 : 1));
  const seen = JSON.stringify(lines);
  if (seen === lastSeen) return;
  lastSeen = seen;
  $("present").textContent = new Set(lines.map(([, s]) => s)).size;
  $("who").replaceChildren(...lines.slice(0, PRESENT).map(([match, subscriber]) => {
    const item = make("li", "");
    const name = make("span", "name", subscriber);
    name.title = subscriber;
    item.append(make("span", "topic", match), name);
    return item;
  }));
  const more = lines.length - PRESENT;
  $("who-note").className = "answer";
  $("who-note").textContent = more > 0 ? `and ${more} more` : lines.length ? "" : "Nobody, or the hub doesn't keep a list (presence).";
}

function absent(text) {
  lastSeen = "";
  $("present").textContent = "";
  $("who").replaceChildren();
  $("who-note").className = "answer bad";
  $("who-note").textContent = text;
}

// ---- what the user does

$("add").addEventListener("submit", (e) => {
  e.preventDefault();
  const match = $("match").value;
  $("match").value = "";
  join($("pattern").checked ? "patterns" : "topics", match);
});
$("publish").addEventListener("submit", async (e) => {
  e.preventDefault();
  const event = { topic: $("topic").value, data: $("data").value };
  if ($("type").value) event.type = $("type").value;
  if ($("private").checked) event.private = true;
  $("data").value = "";
  const answer = $("answer");
  try {
    const id = await feed.publish(event);
    answer.className = "answer";
    answer.textContent = `Stored as ${id}`;
  } catch (e) {
    $("data").value ||= event.data;
    answer.className = "answer bad";
    answer.textContent = said(e);
  }
});
$("filter").addEventListener("input", () => {
  for (const item of $("log").children) item.hidden = !passes(item);
  count();
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  missed = 0;
  $("pause").setAttribute("aria-pressed", paused);
  draw();
});
$("clear").addEventListener("click", () => {
  arrived = [];
  missed = 0;
  $("log").replaceChildren();
  $("latest").hidden = true;
  count();
});
$("log").addEventListener("click", (e) => {
  const id = e.target.closest(".id")?.textContent;
  if (!id) return;
  $("from").value = "after";
  $("after").disabled = false;
  $("after").value = id;
  $("after").focus();
});
$("log").addEventListener("scroll", () => {
  const log = $("log");
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) $("latest").hidden = true;
});
new ResizeObserver(() => $("latest").hidden && ($("log").scrollTop = $("log").scrollHeight)).observe($("log"));
$("latest").addEventListener("click", () => {
  $("log").scrollTop = $("log").scrollHeight;
  $("log").focus();
});
$("from").addEventListener("change", () => {
  $("after").disabled = $("from").value !== "after";
  $("after").required = $("from").value === "after";
});
$("history").addEventListener("submit", (e) => {
  e.preventDefault();
  begin();
});
$("open").addEventListener("click", begin);
$("way").addEventListener("change", begin);
addEventListener("hashchange", () => location.reload());
document.addEventListener("visibilitychange", () => document.hidden || look(feed));

$("from").value = wanted.get("from") ?? "";
$("after").value = wanted.get("after") ?? "";
$("way").value = wanted.get("way") ?? "";
show();
count();
begin();

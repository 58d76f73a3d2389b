// Compiles only if tandem.d.ts says what tandem.js is. impl.js is a copy of it, beside
// which there is no .d.ts, so its types are those that its code has.
import { Tandem as Declared, TandemOptions, TandemCloseEvent } from "./tandem.js";
import { Tandem as Implemented } from "./impl.js";

// All that is declared is there, and takes and gives what is declared.
type Api = Omit<Declared, "addEventListener" | "removeEventListener">;
const members = (t: Implemented): Api => t;
const construct: new (url: string | URL, options?: TandemOptions) => Api = Implemented;
const constants: [0, 1, 2, 3] = [Declared.CONNECTING, Declared.OPEN, Declared.CLOSING, Declared.CLOSED];
const same: [0, 1, 2, 3] = [Implemented.CONNECTING, Implemented.OPEN, Implemented.CLOSING, Implemented.CLOSED];

// All that is there is declared.
const undeclared: Exclude<keyof Implemented, keyof Declared> extends never ? true : never = true;

// As a page uses it.
async function page() {
  const t = new Declared("/tandem", { shared: "room", headers: async () => ({ Authorization: "Bearer x" }) });
  t.onmessage = (e) => e.data;
  t.onclose = function (e: TandemCloseEvent) { this.url + e.code + e.reason + e.retry; };
  t.addEventListener("lost", (e) => e.reason.length);
  t.send(new Uint8Array(3));
  for await (const m of t) if (typeof m === "string") t.send(m);
  const ms: number = await t.ping();
  return ms;
}

// Compiles only if hub.d.ts says what hub.js is. hubimpl.js is a copy of it, beside which there is no .d.ts.
import { Tandem } from "./tandem.js";
import { Hub as Declared, HubError, HubOptions } from "./hub.js";
import { Hub as Implemented } from "./hubimpl.js";

type Api = Omit<Declared, "addEventListener" | "removeEventListener">;
const members = (h: Implemented): Api => h;
const construct: new (open: () => Tandem, options?: HubOptions) => Api = Implemented;
const undeclared: Exclude<keyof Implemented, keyof Declared> extends never ? true : never = true;

// As a page uses it.
async function page() {
  const hub = new Declared(() => new Tandem("/news"), { earliest: true });
  hub.addEventListener("event", (e) => e.detail.id + e.detail.data);
  hub.addEventListener("close", ({ detail }) => detail.code + detail.do);
  const recovered: boolean = await hub.subscribe({ topics: ["a"], patterns: ["/b/:id"] });
  try {
    const id: string = await hub.publish({ topic: "a", data: "x", private: true });
  } catch (e) {
    if (e instanceof HubError) e.do.length;
  }
  (await hub.presence())[0].subscriber;
  await hub.unsubscribe({ topics: ["a"] });
  hub.close();
}

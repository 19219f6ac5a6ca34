/** capnweb's client, as a load. */

import { newWebSocketRpcSession } from "capnweb";
import type { Texts } from "../servers/capnweb.ts";
import { GETS, loadThrough } from "./calls.ts";

await loadThrough(({ port }) => {
  const texts = newWebSocketRpcSession<Texts>(`ws://127.0.0.1:${port}`);
  return (key) => texts.GET(key);
}, GETS);

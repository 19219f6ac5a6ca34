/** capnweb over a WebSocket: GET as a method of its target. */

import { newWebSocketRpcSession, RpcTarget } from "capnweb";
import { TEXTS } from "../data.ts";

/** What the client calls. */
export class Texts extends RpcTarget {
  GET(key: string): string | undefined {
    return TEXTS.get(key);
  }
}

Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request);
  newWebSocketRpcSession(socket, new Texts());
  return response;
});

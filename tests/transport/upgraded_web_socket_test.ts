/** A WebSocket that the runtime's HTTP server opens, as a transport. */

import { assertEquals } from "@std/assert";
import { systemClock } from "../../transport/clock.ts";
import { Origins } from "../../transport/origins.ts";
import { upgrade } from "../../transport/upgraded_web_socket.ts";

Deno.test("an upgraded WebSocket that is closed before it is open is closed when it opens", async () => {
  const options = {
    origins: new Origins([]),
    maxUnreadBytes: 1,
    refuses: () => false,
    openTimeoutMs: 60_000,
    clock: systemClock,
  };
  await using http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request, info) => {
    const { response, transport } = upgrade(request, info, options);
    transport?.close();
    return response;
  });
  const page = new WebSocket(`ws://127.0.0.1:${http.addr.port}/`);
  assertEquals(await new Promise<number>((resolve) => page.onclose = ({ code }) => resolve(code)), 1001);
});

/** GET as a user would write it in an afternoon: a WebSocket, JSON, and an `id` that connects a reply to its call. */

import { TEXTS } from "../data.ts";

Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => {
    const { id, key } = JSON.parse(data);
    socket.send(JSON.stringify({ id, res: TEXTS.get(key) }));
  };
  return response;
});

/** The client that belongs to `servers/web_socket.ts`, as a load. */

import { GETS, loadThrough } from "./calls.ts";

await loadThrough(async ({ port }) => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}`);
  const waiting = new Map<number, (text: string) => void>();
  let lastId = 0;
  socket.onmessage = ({ data }) => {
    const { id, res } = JSON.parse(data);
    waiting.get(id)?.(res);
    waiting.delete(id);
  };
  await new Promise((resolve) => socket.onopen = resolve);
  return (key) =>
    new Promise<string>((resolve) => {
      waiting.set(++lastId, resolve);
      socket.send(JSON.stringify({ id: lastId, key }));
    });
}, GETS);

/**
 * Node with its own sockets and msgpackr: what a careful Node developer would write by hand. All requests of one read
 * are answered in one write.
 */

import { createServer } from "node:net";
import { Packr } from "msgpackr";

// The second option makes small maps short, as the protocol requires.
const packr = new Packr({ useRecords: false, variableMapSize: true });
const NEWLINE = Buffer.from("\n");

const server = createServer({ noDelay: true }, (socket) => {
  let held = Buffer.alloc(0);
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const parts = [];
    let position = 0;
    while (bytes.length - position >= 2) {
      const length = (((bytes[position] - 32) & 255) << 8) | ((bytes[position + 1] - 32) & 255);
      if (bytes.length - position < length + 3) break;
      const { cmd, seq } = packr.unpack(bytes.subarray(position + 2, position + 2 + length));
      const reply = cmd !== 1 ? { err: "CMD_NOT_FOUND" } : seq === undefined ? { res: "PONG" } : { seq, res: "PONG" };
      const payload = packr.pack(reply);
      parts.push(Buffer.from([(payload.length >> 8) + 32, (payload.length & 255) + 32]), payload, NEWLINE);
      position += length + 3;
    }
    held = bytes.subarray(position);
    if (parts.length > 0) socket.write(Buffer.concat(parts));
  });
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));

/** A textbook echo loop: reads into one buffer, and writes the bytes back. */

import { listen } from "./listen.ts";

const READ_BYTES = 64 * 1024;

listen(async (conn) => {
  const buffer = new Uint8Array(READ_BYTES);
  while (true) {
    const bytes = await conn.read(buffer);
    if (bytes === null) return conn.close();
    for (let sent = 0; sent < bytes;) sent += await conn.write(buffer.subarray(sent, bytes));
  }
});

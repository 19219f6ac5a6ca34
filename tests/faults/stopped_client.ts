/**
 * A client in a process of its own that a test stops: a call that waits, and a PING a second. It says when it is under
 * way, and how it ended. Its arguments: the server's address as JSON, its `alive` in ms.
 */

import { connectPeer } from "../support/peers.ts";

const [address, aliveMs] = Deno.args;
const peer = await connectPeer(JSON.parse(address));
await peer.send({ cmd: 0, alive: Number(aliveMs) }, { cmd: "HOLD", seq: 1 });
console.log(JSON.stringify(await peer.ask({ cmd: 1, seq: 2 })));
const timer = setInterval(() => peer.send({ cmd: 1, seq: 3 }).catch(() => {}), 1000);
const replies = await peer.readToBreak();
clearInterval(timer);
console.log(JSON.stringify(replies.filter(({ seq }) => seq === 1)));

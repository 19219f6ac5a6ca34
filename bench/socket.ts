/**
 * The system's sockets, without the runtime's event loop. So the load generator costs no more than the kernel, and is
 * not slower than the servers. Linux only, like the figures from `/proc`.
 *
 * In: a port of 127.0.0.1. Out: connections that never wait, and a poll that waits. Refused: what the system refuses.
 */

const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  // Sizes fit in 32 bits, which the runtime passes on fastest.
  send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
}).symbols;

// The names and numbers of the system.
const AF_INET = 2;
const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 1;
const EPOLLOUT = 4;

/** The size of one event, and the position of its number. */
const [EVENT_BYTES, EVENT_NUMBER_AT] = Deno.build.arch === "x86_64" ? [12, 4] : [16, 8];
const MAX_EVENTS = 256;

/** Connects to a port of 127.0.0.1. Returns the descriptor. */
export function connectTo(port: number): number {
  const fd = checked("socket", libc.socket(AF_INET, SOCK_STREAM, 0));
  const address = new Uint8Array(16);
  address.set([AF_INET, 0, port >> 8, port & 255, 127, 0, 0, 1]);
  checked("connect", libc.connect(fd, address, address.length));
  checked("setsockopt", libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, new Uint8Array([1, 0, 0, 0]), 4));
  return fd;
}

/** Sends as much as the system accepts now. Returns how many bytes. */
export function send(fd: number, bytes: Uint8Array<ArrayBuffer>): number {
  // -1 means that there is no room, or that the connection has failed. The next read reports a failure.
  return Math.max(0, libc.send(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/** Reads the received bytes. Call it only if the poll reports that there are some. */
export function receive(fd: number, buffer: Uint8Array<ArrayBuffer>): number {
  const bytes = libc.recv(fd, buffer, buffer.length, MSG_DONTWAIT);
  if (bytes <= 0) throw new Error("the server closed the connection");
  return bytes;
}

/** Waits for many sockets at once. */
export class Poll {
  readonly #fd = checked("epoll_create1", libc.epoll_create1(0));
  readonly #event = new DataView(new ArrayBuffer(EVENT_BYTES));
  readonly #events = new DataView(new ArrayBuffer(MAX_EVENTS * EVENT_BYTES));

  /** Watches a socket, which the events identify by its number. */
  add(fd: number, number: number): void {
    this.#control(EPOLL_CTL_ADD, fd, number, EPOLLIN);
  }

  /** Starts or stops watching for room to send. */
  watchRoom(fd: number, number: number, isWatched: boolean): void {
    this.#control(EPOLL_CTL_MOD, fd, number, isWatched ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  /** Waits until a socket is ready. Reports for each ready socket whether it can be read, and whether it has room. */
  wait(timeoutMs: number, onReady: (number: number, isReadable: boolean, hasRoom: boolean) => void): void {
    const count = libc.epoll_wait(this.#fd, this.#events, MAX_EVENTS, timeoutMs);
    for (let at = 0; at < count * EVENT_BYTES; at += EVENT_BYTES) {
      const flags = this.#events.getUint32(at, true);
      onReady(this.#events.getUint32(at + EVENT_NUMBER_AT, true), (flags & ~EPOLLOUT) !== 0, (flags & EPOLLOUT) !== 0);
    }
  }

  #control(operation: number, fd: number, number: number, flags: number): void {
    this.#event.setUint32(0, flags, true);
    this.#event.setUint32(EVENT_NUMBER_AT, number, true);
    checked("epoll_ctl", libc.epoll_ctl(this.#fd, operation, fd, this.#event));
  }
}

function checked(call: string, result: number): number {
  if (result < 0) throw new Error(`Cannot open a connection: the system's ${call}() failed`);
  return result;
}

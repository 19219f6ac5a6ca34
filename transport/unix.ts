/**
 * Listening on a unix socket: a file that only its owner may open, gone when the listener is.
 *
 * In: a path. Out: a listener. A file that an earlier server left behind is replaced. Refused: a path on which a server
 * answers (`AddrInUse`), and one where something lies that is no socket.
 */

/** Its owner may connect, nobody else. */
const MODE = 0o600;

/** A socket that is listened on, and its file. */
export interface UnixListener {
  /** The next connection. */
  accept(): Promise<Deno.UnixConn>;
  /** Accepts no more, and removes the file. */
  close(): void;
}

/**
 * Listens on a path.
 *
 * @param path Where the socket is to be.
 * @returns The listener; closing it removes the file.
 * @throws {Deno.errors.AddrInUse} If a server answers there.
 * @throws {Deno.errors.AlreadyExists} If something is there that is no socket.
 */
export async function listenUnix(path: string): Promise<UnixListener> {
  await removeStale(path);
  // Made where nobody else can get at it, and moved when its mode is right: there is no moment at which others could
  // connect.
  const privateFolder = `${path}.${crypto.randomUUID()}`;
  await Deno.mkdir(privateFolder, { mode: 0o700 });
  try {
    const hidden = `${privateFolder}/socket`;
    const listener = Deno.listen({ transport: "unix", path: hidden });
    await Deno.chmod(hidden, MODE);
    await Deno.rename(hidden, path);
    return {
      accept: () => listener.accept(),
      close() {
        listener.close(); // a second time it throws, before the file of another server could be removed
        Deno.removeSync(path);
      },
    };
  } finally {
    await Deno.remove(privateFolder, { recursive: true });
  }
}

async function removeStale(path: string): Promise<void> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  if (!info.isSocket) throw new Deno.errors.AlreadyExists(`${path} exists, and is no socket`);
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
    await Deno.remove(path); // nobody listens: the server that made it has died
    return;
  }
  throw new Deno.errors.AddrInUse(`a server answers on ${path}`);
}

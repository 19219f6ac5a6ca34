/**
 * Listening on a unix socket: a file that only its owner may open, gone when the listener is.
 *
 * In: a path. Out: a listener. A file that an earlier server left behind is replaced. Refused: a path on which a server
 * answers (`AddrInUse`), and one where something lies that is no socket (`AlreadyExists`).
 *
 * The socket is made in a folder of its own that nobody else can look into, given its mode, and moved from there: so
 * there is no moment at which others could connect, whatever the umask. The folder has a fixed name, the path and
 * `.new`, so that permissions can name it; and while it is there, no other server begins to listen on the path. One that a
 * killed server has left there is removed.
 */

/** Its owner may connect, nobody else. */
const MODE = 0o600;

/** How long another server may take to begin to listen. */
const TAKEN_TRIES = 20;
const TAKEN_WAIT_MS = 50;

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
  const folder = `${path}.new`;
  await makePrivate(folder);
  try {
    await removeStale(path);
    return await listenIn(folder, path);
  } finally {
    await Deno.remove(folder);
  }
}

/** The flags without which a program may not listen on a path, an absolute one. */
export function permissionsToListen(path: string): string {
  const files = `${path},${path}.new`;
  return `--allow-net=unix:${path},unix:${path}.new/s --allow-read=${files} --allow-write=${files}`;
}

/** Makes the folder. Another server has it for a moment as it begins to listen; one that was killed then has left it. */
async function makePrivate(folder: string): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      return await Deno.mkdir(folder, { mode: 0o700 });
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
    if (tries < TAKEN_TRIES) {
      await new Promise((resolve) => setTimeout(resolve, TAKEN_WAIT_MS));
    } else if (tries > TAKEN_TRIES || !await removeLeftBehind(folder)) {
      throw new Deno.errors.AlreadyExists(
        `${folder} exists: another server is about to listen, or it is somebody else's`,
      );
    }
  }
}

/** Removes the folder, if there is nothing in it but a socket on which nobody listens; says whether it did. */
async function removeLeftBehind(folder: string): Promise<boolean> {
  try {
    if (!(await Deno.lstat(folder)).isDirectory) return false;
    await removeStale(`${folder}/s`);
    await Deno.remove(folder);
    return true;
  } catch (error) {
    return error instanceof Deno.errors.NotFound;
  }
}

async function listenIn(folder: string, path: string): Promise<UnixListener> {
  const hidden = `${folder}/s`;
  const listener = Deno.listen({ transport: "unix", path: hidden });
  try {
    await Deno.chmod(hidden, MODE);
    await Deno.rename(hidden, path);
    const { dev, ino } = await Deno.lstat(path);
    return {
      accept: () => listener.accept(),
      close() {
        listener.close();
        removeOwn(path, { dev, ino });
      },
    };
  } catch (error) {
    listener.close(); // the runtime removes the file that it made, where it made it
    throw error;
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

/** Removes a file, unless it has gone or another has taken its place. A file that stays is no harm: see above. */
function removeOwn(path: string, { dev, ino }: Pick<Deno.FileInfo, "dev" | "ino">): void {
  try {
    const found = Deno.lstatSync(path);
    if (found.dev === dev && found.ino === ino) Deno.removeSync(path);
  } catch {
    // It has gone.
  }
}

/**
 * Listens on a unix socket whose file only its owner may open, and removes the file afterwards.
 *
 * In: a path. Out: a listener. The file of a dead server is replaced. Refused: a path on which a server answers
 * (`AddrInUse`), or at which a file exists that is not a socket (`AlreadyExists`).
 *
 * The socket is created in a private folder, given its mode, and moved. So others can never connect, whatever the
 * umask. The folder has a fixed name, the path and `.new`, so that permissions can name it. It also serves as a lock:
 * no other server can start to listen on the path meanwhile. A folder left by a killed server is removed.
 */

/** Only the owner may connect. */
const MODE = 0o600;

/** How long to wait while another server starts to listen. */
const TAKEN_TRIES = 20;
const TAKEN_WAIT_MS = 50;

/** A listening socket and its file. */
export interface UnixListener {
  /** The next connection. */
  accept(): Promise<Deno.UnixConn>;
  /** Removes the file: no more clients come, and those that have come are still accepted. */
  hide(): void;
  /** Stops accepting and removes the file. */
  close(): void;
}

/**
 * Listens on a path.
 *
 * @param path The path of the socket.
 * @returns The listener; closing it removes the file.
 * @throws {Deno.errors.AddrInUse} If a server answers on the path.
 * @throws {Deno.errors.AlreadyExists} If the path exists and is not a socket.
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

/** The permission flags that listening on an absolute path needs. */
export function permissionsToListen(path: string): string {
  const files = `${path},${path}.new`;
  return `--allow-net=unix:${path},unix:${path}.new/s --allow-read=${files} --allow-write=${files}`;
}

/** Makes the folder. It may exist for a moment while another server starts, or be left by a killed one. */
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
        `${folder} exists: another server is starting, or the folder has another use`,
      );
    }
  }
}

/** Removes the folder if it holds nothing but a dead socket; returns whether it did. */
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
    const hide = () => removeOwn(path, { dev, ino });
    return {
      accept: () => listener.accept(),
      hide,
      close() {
        listener.close();
        hide();
      },
    };
  } catch (error) {
    listener.close(); // the runtime removes the file at its first path
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
  if (!info.isSocket) throw new Deno.errors.AlreadyExists(`${path} exists and is not a socket`);
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
    await Deno.remove(path); // its server has died
    return;
  }
  throw new Deno.errors.AddrInUse(`a server answers on ${path}`);
}

/** Removes a file if it is still the same one. A file that stays does no harm: `removeStale` handles it. */
function removeOwn(path: string, { dev, ino }: Pick<Deno.FileInfo, "dev" | "ino">): void {
  try {
    const found = Deno.lstatSync(path);
    if (found.dev === dev && found.ino === ino) Deno.removeSync(path);
  } catch {
    // It no longer exists.
  }
}

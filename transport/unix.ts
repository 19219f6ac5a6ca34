/**
 * Listens on a unix socket whose file only its owner may open, or those that its mode and group say, and removes the file
 * afterwards.
 *
 * In: a path, a mode and a group. Out: a listener. The file of a dead server is replaced. Refused: a path on which a
 * server answers (`AddrInUse`), or at which a file exists that is not a socket (`AlreadyExists`); a group that does not
 * exist, or that this user may not use.
 *
 * The socket is created in a private folder, given its group and its mode, and moved. So others can never connect before,
 * whatever the umask. The folder has a fixed name, the path and `.new`, so that permissions can name it. It also serves as
 * a lock: no other server can start to listen on the path meanwhile. A folder left by a killed server is removed.
 */

import type { OptionKind } from "../limits.ts";

/** Only the owner may connect. */
const DEFAULT_MODE = 0o600;

/** The names of groups, with their numbers; those of a directory service are not in it. */
const GROUPS = "/etc/group";

/** How long to wait while another server starts to listen. */
const TAKEN_TRIES = 20;
const TAKEN_WAIT_MS = 50;

/** Who may connect. */
export interface UnixAccess {
  /** The mode of the socket's file. */
  mode?: number;
  /** The group of the socket's file, by its name or its number. */
  group?: string | number;
}

/** The check of a mode, which a decimal 660 does not pass. */
export const MODE: OptionKind = {
  is: (value) => Number.isInteger(value) && value as number >= 0 && value as number <= 0o777,
  must: "be the mode of a file, from 0 to 0o777, such as 0o660",
};

/** The check of a group. */
export const GROUP: OptionKind = {
  is: (value) => typeof value === "string" ? /^[^:\s]+$/.test(value) : Number.isInteger(value) && value as number >= 0,
  must: "be the name of a group, or its number",
};

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
 * @param access Who may connect; only the owner by default.
 * @returns The listener; closing it removes the file.
 * @throws {Deno.errors.AddrInUse} If a server answers on the path.
 * @throws {Deno.errors.AlreadyExists} If the path exists and is not a socket.
 * @throws {TypeError} If there is no such group, or this user may not use it.
 */
export async function listenUnix(path: string, access: UnixAccess = {}): Promise<UnixListener> {
  const folder = `${path}.new`;
  await makePrivate(folder);
  try {
    await removeStale(path);
    return await listenIn(folder, path, access);
  } finally {
    await Deno.remove(folder);
  }
}

/** The permission flags that listening on an absolute path needs. */
export function permissionsToListen(path: string, group?: string | number): string {
  const files = `${path},${path}.new`;
  const groups = group === undefined || numberOf(group) !== undefined ? "" : `,${GROUPS}`;
  return `--allow-net=unix:${path},unix:${path}.new/s --allow-read=${files}${groups} --allow-write=${files}`;
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

async function listenIn(
  folder: string,
  path: string,
  { mode = DEFAULT_MODE, group }: UnixAccess,
): Promise<UnixListener> {
  const hidden = `${folder}/s`;
  const listener = Deno.listen({ transport: "unix", path: hidden });
  try {
    if (group !== undefined) await giveTo(hidden, group);
    await Deno.chmod(hidden, mode);
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

async function giveTo(file: string, group: string | number): Promise<void> {
  const id = numberOf(group) ?? await numberByName(group);
  try {
    await Deno.chown(file, null, id);
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    throw new TypeError(`Cannot use group ${group} for the socket: this user is not in it`);
  }
}

function numberOf(group: string | number): number | undefined {
  return /^\d+$/.test(`${group}`) ? Number(group) : undefined;
}

async function numberByName(group: string | number): Promise<number> {
  for (const line of (await Deno.readTextFile(GROUPS)).split("\n")) {
    const [name, , id] = line.split(":");
    if (name === group) return Number(id);
  }
  throw new TypeError(`Cannot use group ${group} for the socket: ${GROUPS} does not have it; give its number`);
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

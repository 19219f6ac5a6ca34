/**
 * Listens on a unix socket whose file only its owner may open, or the users that its mode and group allow, and removes
 * the file afterwards.
 *
 * In: a path, a mode and a group. Out: a listener. The file of a dead server is replaced. Refused: a path on which a
 * server answers, or which this user may not open (`AddrInUse`), or at which a file exists that is not a socket
 * (`AlreadyExists`); a group that does not exist, or that this user may not use.
 *
 * The socket is created in a private folder, given its group and its mode, and then moved to the path. So other users
 * can never connect too early, whatever the umask. The folder has a fixed name, the path and `.new`, so that
 * permissions can name it. The folder also serves as a lock: no other server can start to listen on the path meanwhile.
 * A folder left by a killed server is removed.
 */

import type { OptionKind } from "../limits.ts";
import { isNamed, systemError } from "./runtime.ts";

/** Only the owner may connect. */
const DEFAULT_MODE = 0o600;

/** The names of groups, with their numbers. Groups of a directory service are not in this file. */
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

/** The check of a mode. It refuses a decimal 660. */
export const MODE: OptionKind = {
  is: (value) => Number.isInteger(value) && value as number >= 0 && value as number <= 0o777,
  must: "be the mode of a file, from 0 to 0o777, such as 0o660",
};

/** The largest number of a group. The runtime would cut a larger one: 2 ** 32 to the group of root. -1 changes none. */
const MAX_GROUP = 2 ** 32 - 2;

/** The check of a group. */
export const GROUP: OptionKind = {
  is: (value) =>
    typeof value === "string"
      ? /^[^:\s]+$/.test(value) && (numberOf(value) ?? 0) <= MAX_GROUP
      : Number.isInteger(value) && value as number >= 0 && value as number <= MAX_GROUP,
  must: "be the name of a group, or its number",
};

/** Facts about a file. */
interface FileFacts {
  readonly isSocket: boolean | null;
  readonly isDirectory: boolean;
  readonly dev: number;
  readonly ino: number | null;
}

/** The files and unix sockets of a runtime, named as in Deno. */
export interface UnixSystem<Connection> {
  listen(path: string): UnixSocket<Connection> | Promise<UnixSocket<Connection>>;
  /** Connects and closes, to see whether a server answers. */
  knock(path: string): Promise<void>;
  mkdir(path: string, options: { mode: number }): Promise<void>;
  lstat(path: string): Promise<FileFacts>;
  lstatSync(path: string): FileFacts;
  chmod(path: string, mode: number): Promise<void>;
  chown(path: string, uid: null, gid: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  readTextFile(path: string): Promise<string>;
  remove(path: string): Promise<void>;
  removeSync(path: string): void;
}

/** A listening socket. */
interface UnixSocket<Connection> {
  accept(): Promise<Connection>;
  close(): void;
}

/** A listening socket and its file. */
interface UnixListener<Connection> {
  /** The next connection. */
  accept(): Promise<Connection>;
  /** Removes the file, so that no more clients arrive. Clients that have connected are still accepted. */
  hide(): void;
  /** Stops accepting and removes the file. */
  close(): void;
}

/**
 * Listens on a path.
 *
 * @param path The path of the socket.
 * @param access Who may connect; only the owner by default.
 * @param system The files and sockets of the runtime.
 * @returns The listener; closing it removes the file.
 * @throws {Deno.errors.AddrInUse} If a server answers on the path, or is too busy to answer, or if this user may
 * not open or remove the socket.
 * @throws {Deno.errors.AlreadyExists} If the path exists and is not a socket.
 * @throws {TypeError} If there is no such group, or this user may not use it, or the path is too long.
 */
export async function listenUnix<Connection>(
  path: string,
  access: UnixAccess,
  system: UnixSystem<Connection>,
): Promise<UnixListener<Connection>> {
  const folder = `${path}.new`;
  await makePrivate(folder, system);
  try {
    await removeStale(path, system);
    return await listenIn(folder, path, access, system);
  } finally {
    await system.remove(folder);
  }
}

/** The permission flags that listening on an absolute path needs. */
export function permissionsToListen(path: string, group?: string | number): string {
  const files = `${path},${path}.new`;
  const groups = group === undefined || numberOf(group) !== undefined ? "" : `,${GROUPS}`;
  return `--allow-net=unix:${path},unix:${path}.new/s --allow-read=${files}${groups} --allow-write=${files}`;
}

/** Makes the folder. The folder may exist for a moment while another server starts, or be left by a killed server. */
async function makePrivate(folder: string, system: UnixSystem<unknown>): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      return await system.mkdir(folder, { mode: 0o700 });
    } catch (error) {
      if (!isNamed(error, "AlreadyExists")) throw error;
    }
    if (tries < TAKEN_TRIES) {
      await new Promise((resolve) => setTimeout(resolve, TAKEN_WAIT_MS));
    } else if (tries > TAKEN_TRIES || !await removeLeftBehind(folder, system)) {
      throw systemError(
        "AlreadyExists",
        `${folder} exists: another server is starting, or the folder has another use`,
      );
    }
  }
}

/** Removes the folder if it holds nothing but a dead socket; returns whether it did. */
async function removeLeftBehind(folder: string, system: UnixSystem<unknown>): Promise<boolean> {
  try {
    if (!(await system.lstat(folder)).isDirectory) return false;
    await removeStale(`${folder}/s`, system);
    await system.remove(folder);
    return true;
  } catch (error) {
    return isNamed(error, "NotFound");
  }
}

async function listenIn<Connection>(
  folder: string,
  path: string,
  { mode = DEFAULT_MODE, group }: UnixAccess,
  system: UnixSystem<Connection>,
): Promise<UnixListener<Connection>> {
  const hidden = `${folder}/s`;
  const listener = await listenOn(hidden, path, system);
  try {
    if (group !== undefined) await giveTo(hidden, group, system);
    await system.chmod(hidden, mode);
    await system.rename(hidden, path);
    const { dev, ino } = await system.lstat(path);
    const hide = () => removeOwn(path, { dev, ino }, system);
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

/** Listens on the first path of the socket, which is longer than its last one. */
async function listenOn<Connection>(
  hidden: string,
  path: string,
  system: UnixSystem<Connection>,
): Promise<UnixSocket<Connection>> {
  try {
    return await system.listen(hidden);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EINVAL") throw error;
    const bytes = new TextEncoder().encode(path).length;
    throw new TypeError(
      `the path is too long: it has ${bytes} bytes, and may have 101 on Linux or 97 on macOS, 6 less than the system ` +
        `allows, because the socket is first made at ${hidden}`,
      { cause: error },
    );
  }
}

async function giveTo(file: string, group: string | number, system: UnixSystem<unknown>): Promise<void> {
  const id = numberOf(group) ?? await numberByName(group, system);
  try {
    await system.chown(file, null, id);
  } catch (error) {
    if (!isNamed(error, "PermissionDenied")) throw error;
    throw new TypeError(`Cannot use group ${group} for the socket: this user is not in it`);
  }
}

function numberOf(group: string | number): number | undefined {
  return /^\d+$/.test(`${group}`) ? Number(group) : undefined;
}

async function numberByName(group: string | number, system: UnixSystem<unknown>): Promise<number> {
  for (const line of (await system.readTextFile(GROUPS)).split("\n")) {
    const [name, , id] = line.split(":");
    if (name === group) return Number(id);
  }
  throw new TypeError(`Cannot use group ${group} for the socket: ${GROUPS} does not have it; give its number`);
}

async function removeStale(path: string, system: UnixSystem<unknown>): Promise<void> {
  let info: FileFacts;
  try {
    info = await system.lstat(path);
  } catch (error) {
    if (isNamed(error, "NotFound")) return;
    throw error;
  }
  if (!info.isSocket) throw systemError("AlreadyExists", `${path} exists and is not a socket`);
  try {
    if (!await isServed(path, system)) return await system.remove(path);
  } catch (error) {
    if (!isNamed(error, "PermissionDenied")) throw error;
    const text =
      `${path} is a socket that this user may not open or remove: another server has it, or has left it behind`;
    throw systemError("AddrInUse", text);
  }
  throw systemError("AddrInUse", `a server answers on ${path}`);
}

async function isServed(path: string, system: UnixSystem<unknown>): Promise<boolean> {
  try {
    await system.knock(path);
  } catch (error) {
    if (isNamed(error, "ConnectionRefused")) return false;
    // A server lives, but so many clients wait for it that it takes no more for now.
    if (!isNamed(error, "WouldBlock")) throw error;
  }
  return true;
}

/** Removes a file if it is still the same one. A file that stays does no harm: `removeStale` handles it. */
function removeOwn(
  path: string,
  { dev, ino }: Pick<FileFacts, "dev" | "ino">,
  { lstatSync, removeSync }: UnixSystem<unknown>,
): void {
  try {
    const found = lstatSync(path);
    if (found.dev === dev && found.ino === ino) removeSync(path);
  } catch {
    // It no longer exists.
  }
}

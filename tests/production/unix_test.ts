/** Unix sockets: a file that only its owner opens, that is there exactly as long as its server, and that takes no other's place. */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { connect as connectByNode } from "../../client/node.ts";
import { RpcError } from "../../errors.ts";
import { serve as serveByNode } from "../../node.ts";
import { serve } from "../../server.ts";
import { unreachable } from "../../transport/address.ts";
import { denoUnix } from "../../transport/deno_server_network.ts";
import { listenUnix, permissionsToListen } from "../../transport/unix.ts";
import { settle } from "../support/peers.ts";
import { Held, withServer } from "../support/test_server.ts";
import { Folder, Program, root, run } from "./programs.ts";

/** The number of this process's own user (`-u`) or group (`-g`); the runtime would need one more permission to tell. */
function ownId(flag: "-u" | "-g"): number {
  const { stdout } = new Deno.Command("id", { args: [flag] }).outputSync();
  return Number(new TextDecoder().decode(stdout));
}

const isRoot = ownId("-u") === 0;

const PONG = { res: "PONG" };

/** A test with a folder for sockets; Windows has none. */
function unixTest(name: string, run: (folder: Folder) => Promise<void>): void {
  Deno.test({
    name,
    ignore: Deno.build.os === "windows",
    async fn() {
      await using folder = await Folder.make();
      await run(folder);
    },
  });
}

async function filesIn(folder: { path: string }): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder.path))).map(({ name }) => name);
}

async function ping(path: string): Promise<unknown> {
  await using client = await connect({ path });
  return await client.reply("PING");
}

unixTest("a call over a unix socket, and nothing is left of it", async (folder) => {
  const path = `${folder.path}/p.sock`;
  {
    await using server = await withServer({ path });
    assertEquals([server.server.address, server.server.hostname, server.port], [`unix:${path}`, path, 0]);
    const info = await Deno.lstat(path);
    assertEquals([info.isSocket, (info.mode ?? 0) & 0o777], [true, 0o600]);
    assertEquals(await filesIn(folder), ["p.sock"]);
    assertEquals(await ping(path), PONG);
  }
  assertEquals(await filesIn(folder), []);
  const error = await assertRejects(() => ping(path), RpcError);
  const reason = "there is no such socket; is the server running?";
  assertEquals(error.message, `CONNECTION_LOST: cannot reach unix:${path}: ${reason}`);
});

unixTest(
  "a path may be as long as the system allows, with room for its first name; a longer one is told why",
  async (folder) => {
    const most = Deno.build.os === "linux" ? 107 : 103;
    const pathOf = (bytes: number) => `${folder.path}/`.padEnd(bytes, "p");
    for (const serveUnix of [serve, serveByNode]) {
      {
        await using _server = await serveUnix({ path: pathOf(most - 6) });
        assertEquals(await ping(pathOf(most - 6)), PONG);
      }
      for (const bytes of [most - 5, most, most + 1]) {
        const text = `the path is too long: it has ${bytes} bytes, and may have 101 on Linux or 97 on macOS`;
        await assertRejects(() => serveUnix({ path: pathOf(bytes) }), TypeError, text);
      }
      assertEquals(await filesIn(folder), []);
    }
    for (const connectUnix of [connect, connectByNode]) {
      const error = await assertRejects(() => connectUnix({ path: pathOf(most + 1) }), RpcError);
      const reason = "the path is too long: the system allows 107 bytes (Linux) or 103 (macOS)";
      assertEquals(error.message, `CONNECTION_LOST: cannot reach unix:${pathOf(most + 1)}: ${reason}`);
    }
  },
);

unixTest("a file that a dead server has left behind is replaced", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const dead = Deno.listen({ transport: "unix", path: `${folder.path}/dying` });
  await Deno.rename(`${folder.path}/dying`, path); // so that its end does not remove it
  dead.close();
  const error = await assertRejects(() => ping(path), RpcError);
  assertMatch(error.message, /connection refused; is the server running\?$/);
  await using _server = await withServer({ path });
  assertEquals(await ping(path), PONG);
});

unixTest("a server that answers keeps its socket", async (folder) => {
  const path = `${folder.path}/p.sock`;
  await using _server = await withServer({ path });
  const error = await assertRejects(() => serve({ path }), Deno.errors.AddrInUse);
  assertEquals(error.message, `a server answers on ${path}`);
  assertEquals(await filesIn(folder), ["p.sock"]);
  assertEquals(await ping(path), PONG);
});

unixTest("a server for which too many clients wait keeps its socket, and they are told", async (folder) => {
  if (Deno.build.os !== "linux") return; // elsewhere, such a server looks dead
  const path = `${folder.path}/p.sock`;
  using _listener = Deno.listen({ transport: "unix", path });
  const waiting: Deno.Conn[] = [];
  try {
    await assertRejects(async () => {
      while (true) waiting.push(await Deno.connect({ transport: "unix", path }));
    }, Deno.errors.WouldBlock);
    for (const serveUnix of [serve, serveByNode]) {
      const error = await assertRejects(() => serveUnix({ path }), Deno.errors.AddrInUse);
      assertEquals(error.message, `a server answers on ${path}`);
    }
    for (const connectUnix of [connect, connectByNode]) {
      const error = await assertRejects(() => connectUnix({ path }), RpcError);
      const reason = "too many clients wait for the server; is it busy?";
      assertEquals(error.message, `CONNECTION_LOST: cannot reach unix:${path}: ${reason}`);
    }
    assertEquals(await filesIn(folder), ["p.sock"]);
  } finally {
    for (const conn of waiting) conn.close();
  }
});

unixTest("what is no socket stays where it is", async (folder) => {
  await folder.write("file", "precious");
  await Deno.mkdir(`${folder.path}/folder`);
  await Deno.symlink("file", `${folder.path}/link`);
  for (const name of ["file", "folder", "link"]) {
    const path = `${folder.path}/${name}`;
    const error = await assertRejects(() => serve({ path }), Deno.errors.AlreadyExists);
    assertEquals(error.message, `${path} exists and is not a socket`);
  }
  assertEquals(await Deno.readTextFile(`${folder.path}/file`), "precious");
  assertEquals((await filesIn(folder)).sort(), ["file", "folder", "link"]);
});

unixTest("of two servers that begin on one path at once, one does", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const begun = await Promise.allSettled([serve({ path }), serve({ path }), serve({ path })]);
  const servers = begun.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
  assertEquals(servers.length, 1);
  assertEquals(await ping(path), PONG);
  await servers[0].shutdown({ graceMs: 0 });
  assertEquals(await filesIn(folder), []);
});

unixTest("what a start that was killed in its midst has left there is removed by the next", async (folder) => {
  const path = `${folder.path}/p.sock`;
  await Deno.mkdir(`${path}.new`);
  {
    await using _server = await serve({ path });
    assertEquals(await ping(path), PONG);
  }
  await Deno.mkdir(`${path}.new`);
  // A program that is killed leaves the file of its socket.
  const code = `Deno.listen({ transport: "unix", path: ${
    JSON.stringify(`${path}.new/s`)
  } }); Deno.kill(Deno.pid, "SIGKILL")`;
  await new Deno.Command(Deno.execPath(), { args: ["eval", "--quiet", code] }).output();
  assertEquals(await filesIn({ path: `${path}.new` }), ["s"]);
  await using _server = await serve({ path });
  assertEquals(await ping(path), PONG);
  assertEquals(await filesIn(folder), ["p.sock"]);
});

unixTest("a folder in the way that holds something else is told of, and not touched", async (folder) => {
  const path = `${folder.path}/p.sock`;
  await Deno.mkdir(`${path}.new`);
  await Deno.writeTextFile(`${path}.new/precious`, "");
  const error = await assertRejects(() => serve({ path }), Deno.errors.AlreadyExists);
  const text = `${path}.new exists: another server is starting, or the folder has another use`;
  assertEquals(error.message, text);
  assertEquals(await filesIn(folder), ["p.sock.new"]);
});

unixTest("a server removes its own file, and no other's", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const first = await listenUnix(path, {}, denoUnix);
  await Deno.remove(path);
  const second = await listenUnix(path, {}, denoUnix);
  first.close();
  assertEquals(await filesIn(folder), ["p.sock"]);
  await Deno.remove(path); // gone already when the server comes to it
  second.close();
});

unixTest("a server without free file descriptors serves its clients: the runtime ended it", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const server = [Deno.execPath(), ...DENO, "--allow-all", `${root}server.ts`, "--unix", path];
  const limited = ["-c", 'ulimit -n 48; exec "$@"', "sh", ...server];
  await using program = await Program.start("sh", limited, /listening on .*\n/);
  await using client = await connect({ path });
  assertEquals(await client.call.PING(), "PONG");
  const others: Deno.Conn[] = [];
  try {
    for (let count = 0; count < 60; count++) others.push(await Deno.connect({ transport: "unix", path }));
    await program.hear(/Too many open files \(os error 24\)\n/);
    assertEquals(await client.call.PING(), "PONG");
  } finally {
    for (const other of others) other.close();
  }
  program.kill("SIGTERM");
  assertEquals((await program.status).code, 0);
});

unixTest(
  "a socket that this user may not open or remove is named as such, not as a folder that may not be written",
  async (folder) => {
    const path = `${folder.path}/p.sock`;
    const code = `Deno.listen({ transport: "unix", path: ${JSON.stringify(path)} }); Deno.kill(Deno.pid, "SIGKILL")`;
    await new Deno.Command(Deno.execPath(), { args: ["eval", "--quiet", code] }).output();
    const denied = () => Promise.reject(new Deno.errors.PermissionDenied("Permission denied (os error 13)"));
    const text =
      `${path} is a socket that this user may not open or remove: another server has it, or has left it behind`;
    // This user may not connect to it, or may not remove it from a folder such as /tmp.
    const systems = [{ ...denoUnix, knock: denied }, {
      ...denoUnix,
      remove: (file: string) => file === path ? denied() : denoUnix.remove(file),
    }];
    for (const system of systems) {
      await assertRejects(() => listenUnix(path, {}, system), Deno.errors.AddrInUse, text);
      assertEquals(await filesIn(folder), ["p.sock"]);
    }
  },
);

unixTest("a shutdown takes the file away at once, and answers what is in flight", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const held = new Held();
  const server = await serve({ path, commands: { HELD: held.command } });
  await using client = await connect({ path });
  const call = client.reply("HELD", { id: 1 });
  while (held.running === 0) await settle(1);
  const ended = server.shutdown({ graceMs: 60_000 });
  assertEquals(await filesIn(folder), []);
  held.finishAll();
  assertEquals((await call).res, 1);
  assertEquals(await ended, { finished: 1, cut: 0 });
});

// Who may connect ----------------------------------------------------------------------------------------------------

/** A group that this user may give a file to: another one than its own, if possible. */
async function someGroup(): Promise<{ name: string; id: number }> {
  const lines = (await Deno.readTextFile("/etc/group")).trim().split("\n");
  const groups = lines.map((line) => line.split(":")).map(([name, , id]) => ({ name, id: Number(id) }));
  return groups.find(({ id }) => isRoot ? id !== ownId("-g") : id === ownId("-g")) ?? groups[0];
}

unixTest(
  "the file of a socket has the mode and the group that are wanted, before anybody can connect",
  async (folder) => {
    const { name, id } = await someGroup();
    for (const [group, mode] of [[name, 0o660], [id, 0o666], [`${id}`, 0o640]] as const) {
      const path = `${folder.path}/p.sock`;
      await using _server = await serve({ path, mode, group });
      const info = await Deno.lstat(path);
      assertEquals([info.isSocket, (info.mode ?? 0) & 0o777, info.gid], [true, mode, id]);
      assertEquals(await ping(path), PONG);
    }
    assertEquals(await filesIn(folder), []);
  },
);

unixTest("a mode or a group that cannot be is told of, and nothing listens", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const mode = "as mode: it must be the mode of a file, from 0 to 0o777, such as 0o660";
  const group = "as group: it must be the name of a group, or its number";
  const bad: [options: Parameters<typeof serve>[0], message: string][] = [
    [{ path, mode: 660 }, `Cannot use 660 ${mode}`],
    [{ path, mode: "0660" as unknown as number }, `Cannot use "0660" ${mode}`],
    [{ path, group: "" }, `Cannot use "" ${group}`],
    [{ path, group: -1 }, `Cannot use -1 ${group}`],
    [{ path, group: 2 ** 32 }, `Cannot use 4294967296 ${group}`], // it would be root's, cut to 32 bits
    [{ path, group: "4294967295" }, `Cannot use "4294967295" ${group}`], // it would be left unchanged
    [{ path, group: "no-such-group" }, NO_GROUP],
    [{ port: 0, mode: 0o660 }, "Cannot use mode or group without path: they are those of a unix socket"],
    [{ port: 0, group: 0 }, "Cannot use mode or group without path: they are those of a unix socket"],
  ];
  for (const [options, message] of bad) {
    assertEquals((await assertRejects(() => serve(options), Error)).message, message);
  }
  assertEquals(await filesIn(folder), []);
});

const NO_GROUP = "Cannot use group no-such-group for the socket: /etc/group does not have it; give its number";

if (isRoot) console.log("skipped: a group of others is told of: root may use every group");
Deno.test({
  name: "a group of others is told of",
  ignore: isRoot,
  async fn() {
    await using folder = await Folder.make();
    const error = await assertRejects(() => serve({ path: `${folder.path}/p.sock`, group: 0 }), TypeError);
    assertEquals(error.message, "Cannot use group 0 for the socket: this user is not in it");
  },
});

unixTest("a socket that this user may not open is told of, at either end", async (folder) => {
  const path = `${folder.path}/p.sock`;
  await using _server = await serve({ path, mode: 0 });
  const text =
    `${path} is a socket that this user may not open or remove: another server has it, or has left it behind`;
  const reason = "this user may not open it; the server's mode and group (--unix-mode, --unix-group) say who may";
  const denied = Object.assign(new Deno.errors.PermissionDenied("Permission denied (os error 13)"), { code: "EACCES" });
  // To root, the system denies nothing.
  const system = isRoot ? { ...denoUnix, knock: () => Promise.reject(denied) } : denoUnix;
  const inUse = await assertRejects(() => listenUnix(path, {}, system), Deno.errors.AddrInUse);
  assertEquals(inUse.message, text);
  assertEquals(await filesIn(folder), ["p.sock"]);
  const lost = isRoot ? unreachable(`unix:${path}`, denied) : await assertRejects(() => connect({ path }), RpcError);
  assertEquals(lost.message, `CONNECTION_LOST: cannot reach unix:${path}: ${reason}`);
});

// As programs --------------------------------------------------------------------------------------------------------

const DENO = ["run", "--no-prompt"];
const MODE_HELP = "--unix-mode 9: a mode is three octal digits, such as 0660; see --help";

unixTest("both scripts over a unix socket, with the permissions that their complaints name", async (folder) => {
  const path = `${folder.path}/p.sock`;
  const server = [`${root}server.ts`, "--unix", path];
  const client = [`${root}client.ts`, "--unix", path, "PING"];
  const complaint = await run(Deno.execPath(), [...DENO, ...server]);
  assertEquals(complaint, {
    code: 1,
    text: `packline: no permission to listen on unix:${path}; run it with ${permissionsToListen(path)}\n`,
  });
  const flags = permissionsToListen(path).split(" ");
  // Each is needed: without one of them, it is the same complaint.
  for (const flag of flags) {
    const others = flags.filter((other) => other !== flag);
    assertEquals(await run(Deno.execPath(), [...DENO, ...others, ...server]), complaint, `without ${flag}`);
  }
  await using listening = await Program.start(
    Deno.execPath(),
    [...DENO, ...flags, ...server],
    /listening on unix:.*\n/,
  );
  assertMatch(listening.said, new RegExp(`^packline [\\d.]+ listening on unix:${path}\n$`));

  const refused = await run(Deno.execPath(), [...DENO, ...client]);
  assertEquals(refused.code, 3);
  const [, needed] = refused.text.match(/^packline: no permission to reach unix:.*; run it with (.*)\n$/) ?? [];
  assertEquals(await run(Deno.execPath(), [...DENO, ...needed.split(" "), ...client]), {
    code: 0,
    text: 'you said {"res":"PONG"}\n',
  });

  listening.kill("SIGTERM");
  assertEquals((await listening.status).code, 0);
  assertEquals(await filesIn(folder), []);
});

unixTest(
  "a path relative to where the server is started, under a umask that would let everybody in",
  async (folder) => {
    const server = [`${root}server.ts`, "--unix", "p.sock"];
    const { text } = await run(Deno.execPath(), [...DENO, ...server], { cwd: folder.path });
    const flags = permissionsToListen(`${folder.path}/p.sock`);
    assertEquals(text, `packline: no permission to listen on unix:p.sock; run it with ${flags}\n`);
    const shell = ["-c", 'cd "$1"; umask 0; shift; exec "$@"', "sh", folder.path];
    const deno = [Deno.execPath(), ...DENO, ...flags.split(" "), ...server];
    await using _listening = await Program.start("sh", [...shell, ...deno], /listening on unix:p.sock\n/);
    assertEquals(((await Deno.lstat(`${folder.path}/p.sock`)).mode ?? 0) & 0o777, 0o600);
    assertEquals(await ping(`${folder.path}/p.sock`), PONG);
  },
);

unixTest("--unix-mode and --unix-group, with the permissions that the complaint names", async (folder) => {
  const { name, id } = await someGroup();
  const path = `${folder.path}/p.sock`;
  const server = [`${root}server.ts`, "--unix", path, "--unix-mode", "0660", "--unix-group", name];
  const flags = permissionsToListen(path, name);
  assertMatch(flags, /,\/etc\/group /);
  const { text } = await run(Deno.execPath(), [...DENO, ...server]);
  assertEquals(text, `packline: no permission to listen on unix:${path}; run it with ${flags}\n`);
  const deno = [...DENO, ...flags.split(" ")];
  await using _listening = await Program.start(Deno.execPath(), [...deno, ...server], /listening on unix:.*\n/);
  const info = await Deno.lstat(path);
  assertEquals([(info.mode ?? 0) & 0o777, info.gid], [0o660, id]);
  assertEquals(await ping(path), PONG);
});

unixTest("a socket that cannot be is one line, and an exit code", async (folder) => {
  await folder.write("file", "");
  const { path } = folder;
  const long = `${path}/${"x".repeat(120)}`;
  const cases: [flags: string[], code: number, text: string][] = [
    [
      ["--unix", `${path}/none/p.sock`],
      1,
      `cannot listen on unix:${path}/none/p.sock: there is no folder ${path}/none`,
    ],
    [["--unix", `${path}/file`], 1, `cannot listen on unix:${path}/file: ${path}/file exists and is not a socket`],
    [
      ["--unix", long],
      1,
      `cannot listen on unix:${long}: the path is too long: it has ${long.length} bytes, and may have 101 on Linux or ` +
      `97 on macOS, 6 less than the system allows, because the socket is first made at ${long}.new/s`,
    ],
    [
      ["--unix", `${path}/p`, "--unix-group", "no-such-group"],
      1,
      `cannot listen on unix:${path}/p: ${NO_GROUP}`,
    ],
    [["--unix", `${path}/p`, "--unix-mode", "9"], 2, MODE_HELP],
    [["--unix", `${path}/p`, "--unix-mode", "rw-"], 2, MODE_HELP.replace("9", "rw-")],
    [["--unix-mode", "0660"], 2, "--unix-mode and --unix-group need --unix; see --help"],
    [["--unix-group", "root"], 2, "--unix-mode and --unix-group need --unix; see --help"],
    [["--unix", `${path}/p`, "--cert", "a", "--key", "b"], 2, "--unix cannot be used with TLS; see --help"],
  ];
  for (const [flags, code, text] of cases) {
    const outcome = await run(Deno.execPath(), [...DENO, "--allow-all", `${root}server.ts`, ...flags]);
    assertEquals(outcome, { code, text: `packline: ${text}\n` });
  }
  assertEquals(await filesIn(folder), ["file"]);
});

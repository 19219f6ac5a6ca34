/**
 * `examples/service`, as its user has it: in a folder of its own, with a link to this checkout. Its tests and its program
 * run there; its configurations are accepted by the programs they are for, and balance it under load.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { parseAll } from "npm:deno-std@1.4.0/yaml/mod.js";
import { type Client, connect, RpcError } from "../../mod.ts";
import { DEFAULT_GRACE_MS, DEFAULT_LIMITS } from "../../limits.ts";
import { request } from "../support/wire.ts";
import { Installed, TOKEN } from "./installed_service.ts";
import {
  example,
  Folder,
  onFreePort,
  type Package,
  Program,
  root,
  run,
  startHaproxy,
  startNginx,
  testWith,
} from "./programs.ts";

const meta = { token: TOKEN };

/** After the grace, those whose calls were cut are told, in at most half a second. */
const DRAIN_SECONDS = DEFAULT_GRACE_MS / 1000 + 0.5;

// In its user's hands ------------------------------------------------------------------------------------------------

Deno.test("examples/service: copied into an empty folder, its types and its own tests pass", async () => {
  await using service = await Installed.make();
  const checked = await service.deno("check", "--frozen");
  assertEquals(checked.code, 0, checked.text);
  const tested = await service.deno("task", "test");
  assertEquals(tested.code, 0, tested.text);
  assertMatch(tested.text, /ok \| 7 passed \| 0 failed/);
});

Deno.test("examples/service: its client, and the script with a token, call its server", async () => {
  await using service = await Installed.make();
  await using server = await service.startTask();
  const client = ["--allow-net=127.0.0.1", "--allow-env=WEATHER_TOKEN", "client.ts", String(server.port)];
  const called = await service.deno("run", "--no-prompt", ...client);
  assertEquals(called.code, 0, called.text);
  assertMatch(called.text, /^recorded by roof, \d{4}-\S+Z\nimported 2\n4.5 °C\n3 °C\n3.5 °C\n$/);

  const call = (...args: string[]) => service.deno("task", "--quiet", "call", "--port", String(server.port), ...args);
  const rome = ["RECORD", "place=Rome", "degrees=21"];
  const recorded = await call(...rome, "--meta", `token=${TOKEN}`);
  assertEquals(recorded.code, 0, recorded.text);
  assertMatch((await call(...rome)).text, /"err":"UNAUTHENTICATED"/);
  assertMatch(
    (await call("RECORD", "place=Rome", "degrees=2100", "--meta", `token=${TOKEN}`)).text,
    /INVALID_PARAMS.*degrees/,
  );
  assertMatch((await call("LIST", "place=Rome", "--json")).text, /^\{"res":\[\{"place":"Rome","degrees":21,/);
  assertMatch((await call("--list")).text, /RECORD +place degrees +Records/);
  assertEquals(await service.degrees(), [4.5, 3, 3.5, 21]);
  await server.hear(/RECORD UNAUTHENTICATED/);
});

Deno.test("examples/service: without a token in the environment it does not start, and says so", async () => {
  await using service = await Installed.make();
  service.env.WEATHER_TOKEN = "";
  const { code, text } = await service.deno("run", "--no-prompt", "--allow-env", "server.ts");
  assertEquals([code, text], [2, "Set WEATHER_TOKEN to the token that RECORD needs\n"]);
});

// Under load ---------------------------------------------------------------------------------------------------------

/** Clients that always have so many calls in flight. */
const CLIENTS = 4;
const CALLS = 4;

/** Clients that record all the time, each temperature once. */
class Load {
  /** Temperatures that were recorded, by the replies. */
  readonly recorded: number[] = [];
  /** The codes of calls that failed. */
  readonly failures: string[] = [];
  readonly finished: Promise<unknown>;
  #stopped = false;
  #next = 0;
  #wanted = Infinity;
  #reached = () => {};

  /** @param untilFailure Whether each caller stops at its first failure. */
  constructor(clients: readonly Client[], untilFailure: boolean) {
    const run = async (client: Client) => {
      while (!this.#stopped) {
        const degrees = this.#next++ / 1000;
        try {
          await client.call("RECORD", { place: "Oslo", degrees }, { meta });
          if (this.recorded.push(degrees) === this.#wanted) this.#reached();
        } catch (error) {
          if (!(error instanceof RpcError)) throw error;
          this.failures.push(error.code);
          if (untilFailure) return;
        }
      }
    };
    this.finished = Promise.all(clients.flatMap((client) => Array.from({ length: CALLS }, () => run(client))));
  }

  /** Resolves when so many more have been recorded. */
  async more(calls: number): Promise<void> {
    this.#wanted = this.recorded.length + calls;
    await new Promise<void>((resolve) => this.#reached = resolve);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.finished;
  }
}

async function connectSome(port: number): Promise<AsyncDisposable & { all: Client[] }> {
  const all = await Promise.all(Array.from({ length: CLIENTS }, () => connect({ port })));
  return {
    all,
    async [Symbol.asyncDispose]() {
      await Promise.all(all.map((client) => client.close()));
    },
  };
}

const ascending = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b);

Deno.test("examples/service: SIGTERM under load, and each call is either done and answered, or not begun", async () => {
  await using service = await Installed.make();
  await using server = await service.start();
  await using clients = await connectSome(server.port);
  const load = new Load(clients.all, true);
  await load.more(200);
  server.kill("SIGTERM");
  assertEquals((await server.status).code, 0);
  // There is no other server, so each caller has a call that waits to be sent again. None was lost on its way.
  for (const client of clients.all) await client.close();
  await load.finished;
  assertEquals(load.failures, Array(CLIENTS * CALLS).fill("CLOSED"));
  assertEquals(ascending(await service.degrees()), ascending(load.recorded));
  console.log(`one server, terminated under load: ${load.recorded.length} calls answered, 0 lost`);
});

Deno.test({
  name: "examples/service: two workers share the port and the log",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using service = await Installed.make();
    const flags = ["--unstable-net", `--allow-run=${Deno.execPath()}`];
    await using server = await service.start(flags, ["--workers", "2"]);
    assertMatch(server.said, /with 2 workers listening/);
    const met = new Set<number>();
    for (let tries = 0; tries < 100 && met.size < 2; tries++) {
      await using client = await connect({ port: server.port });
      const { worker } = await client.call("INFO");
      if (worker === undefined || met.has(worker)) continue;
      met.add(worker);
      await client.call("RECORD", { place: "Oslo", degrees: worker }, { meta });
      const listed = await client.call("LIST", { place: "Oslo" }) as { degrees: number }[];
      assertEquals(listed.map(({ degrees }) => degrees), [...met]);
    }
    assertEquals(met, new Set([1, 2]));
    server.kill("SIGTERM");
    assertEquals((await server.status).code, 0);
  },
});

interface Balancer {
  readonly name: string;
  readonly packages: readonly Package[];
  readonly file: string;
  /** The line of its example that makes it tell its clients. */
  readonly proxyLine: string;
  start(folder: Folder, config: string): Promise<Program>;
}

const BALANCERS: readonly Balancer[] = [
  {
    name: "HAProxy",
    packages: ["haproxy"],
    file: "haproxy.cfg",
    proxyLine: "default-server send-proxy-v2 check-send-proxy",
    start: (folder, config) => startHaproxy(folder, config.replaceAll("/run/haproxy", folder.path)),
  },
  {
    name: "nginx",
    packages: ["nginx", "libnginx-mod-stream"],
    file: "nginx.conf",
    proxyLine: "proxy_protocol on;",
    start: startNginx,
  },
];

for (const { name, packages, file, start } of BALANCERS) {
  testWith(
    packages,
    `examples/service: behind ${name}, SIGTERM to one of two servers under load loses 0 calls`,
    async () => {
      await using service = await Installed.make();
      await using one = await service.start();
      await using two = await service.start();
      await using folder = await Folder.make();
      const balancer = await onFreePort(async (port) => {
        const config = await example(`service/deploy/${file}`, {
          "127.0.0.1:1235": `127.0.0.1:${port}`,
          "127.0.0.1:1236": `127.0.0.1:${one.port}`,
          "127.0.0.1:1237": `127.0.0.1:${two.port}`,
        });
        return Object.assign(await start(folder, config), { port });
      });
      await using _ = balancer;
      await using clients = await connectSome(balancer.port);
      const load = new Load(clients.all, false);
      await load.more(200);
      one.kill("SIGTERM");
      assertEquals((await one.status).code, 0);
      await load.more(200);
      await load.stop();
      assertEquals(load.failures, []);
      for (const server of [one, two]) assertMatch(server.said, / RECORD ok /);
      assertEquals(ascending(await service.degrees()), ascending(load.recorded));
      console.log(`${name}, one of two terminated under load: ${load.recorded.length} calls answered, 0 lost`);
    },
  );
}

for (const { name, packages, file, proxyLine, start } of BALANCERS) {
  testWith(
    packages,
    `examples/service: behind ${name} with the line for it, the access log has the clients`,
    async () => {
      await using service = await Installed.make();
      await using server = await service.start([], ["--proxy-protocol-from", "127.0.0.1", "--log-format", "json"]);
      await using folder = await Folder.make();
      const balancer = await onFreePort(async (port) => {
        const config = await example(`service/deploy/${file}`, {
          "127.0.0.1:1235": `127.0.0.1:${port}`,
          "127.0.0.1:1236": `127.0.0.1:${server.port}`,
          "127.0.0.1:1237": `127.0.0.1:${server.port}`,
          [`# ${proxyLine}`]: proxyLine,
        });
        return Object.assign(await start(folder, config), { port });
      });
      await using _ = balancer;
      using conn = await Deno.connect({ hostname: "127.0.0.1", port: balancer.port });
      await conn.write(request({ cmd: "LIST", place: "Oslo" }));
      assert(await conn.read(new Uint8Array(100)) !== null);
      const { hostname, port } = conn.localAddr as Deno.NetAddr;
      await server.hear(new RegExp(`"event":"call","peer":"${hostname}:${port}","command":"LIST"`));
    },
  );
}

// What its configurations say ----------------------------------------------------------------------------------------

testWith(["haproxy"], "HAProxy accepts examples/service", async () => {
  const { code, text } = await run("haproxy", ["-c", "-f", `${root}examples/service/deploy/haproxy.cfg`]);
  assertEquals([code, text], [0, "Configuration file is valid\n"]);
});

testWith(["nginx", "libnginx-mod-stream"], "nginx accepts examples/service", async () => {
  await using prefix = await Folder.make();
  const config = `${root}examples/service/deploy/nginx.conf`;
  const { code, text } = await run("nginx", ["-t", "-e", "stderr", "-p", prefix.path, "-c", config]);
  assertEquals(code, 0, text);
  assert(!/\[(warn|alert|error)\]/.test(text), text);
});

testWith(["systemd"], "systemd accepts examples/service", async () => {
  await using folder = await Folder.make();
  // As it stands it names a program and a folder that are not everywhere.
  const unit = await example("service/deploy/weather@.service", {
    "/usr/bin/deno": Deno.execPath(),
    "/opt/packline/": root,
  });
  await folder.write("weather@.service", unit);
  const { code, text } = await run("systemd-analyze", ["verify", "--man=no", `${folder.path}/weather@.service`]);
  assertEquals([code, text], [0, ""]);
});

/** The number behind some text, comments apart. */
function numberAfter(config: string, text: string): number {
  const [, number] = config.replaceAll(/#.*/g, "").split(text)[1]?.match(/^[ =:]*(\d+)/) ?? [];
  assert(number !== undefined, `there is no number after "${text}"`);
  return Number(number);
}

Deno.test("examples/service: drains end before they are cut, and balancers wait longer than packline", async () => {
  const [haproxy, nginx, unit] = await Promise.all(
    ["haproxy.cfg", "nginx.conf", "weather@.service"].map((name) => example(`service/deploy/${name}`)),
  );
  assert(numberAfter(haproxy, "hard-stop-after") > DRAIN_SECONDS);
  assert(numberAfter(nginx, "worker_shutdown_timeout") > DRAIN_SECONDS);
  assertEquals(numberAfter(unit, "--grace") * 1000, DEFAULT_GRACE_MS);
  assert(numberAfter(unit, "TimeoutStopSec") > DRAIN_SECONDS);
  assert(numberAfter(unit, "LimitNOFILE") > DEFAULT_LIMITS.maxConnections);
  for (const [config, name] of [[haproxy, "timeout client"], [haproxy, "timeout server"], [nginx, "proxy_timeout"]]) {
    assert(numberAfter(config, name) > DEFAULT_LIMITS.idleTimeoutMs / 1000, name);
  }
});

// The container and Kubernetes ---------------------------------------------------------------------------------------

/** The arguments of the last instruction of a kind. */
function last(containerfile: string, instruction: string): string {
  const lines = containerfile.split("\n").filter((line) => line.startsWith(`${instruction} `));
  return (lines.at(-1) ?? "").slice(instruction.length + 1);
}

Deno.test("examples/service: the Kubernetes objects fit each other, the image, and --grace", async () => {
  const image = await example("service/deploy/Containerfile");
  const [deployment, claim, service] = parseAll(await example("service/deploy/kubernetes.yaml"));
  const { spec, metadata } = deployment.spec.template;
  const [container] = spec.containers;
  assertEquals([deployment.kind, claim.kind, service.kind], ["Deployment", "PersistentVolumeClaim", "Service"]);
  assertEquals(deployment.spec.selector.matchLabels, metadata.labels);
  assertEquals(service.spec.selector, metadata.labels);
  const [affinity] = spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution;
  assertEquals(affinity.labelSelector.matchLabels, metadata.labels);

  assertEquals(container.args, ["--grace", `${DEFAULT_GRACE_MS / 1000}s`]);
  assertEquals(container.args, JSON.parse(last(image, "CMD")));
  assert(spec.terminationGracePeriodSeconds > container.lifecycle.preStop.sleep.seconds + DRAIN_SECONDS);

  const [port] = container.ports;
  assertEquals(port.containerPort, Number(last(image, "EXPOSE")));
  assertEquals(container.readinessProbe.tcpSocket.port, port.name);
  assertEquals(service.spec.ports[0].targetPort, port.name);
  assertEquals(container.livenessProbe.exec.command, JSON.parse(last(image, "HEALTHCHECK").replace(/^.* CMD /, "")));

  const [volume] = spec.volumes;
  assertEquals(volume.persistentVolumeClaim.claimName, claim.metadata.name);
  assertEquals(container.volumeMounts, [{ name: volume.name, mountPath: last(image, "VOLUME") }]);
  assertEquals(spec.enableServiceLinks, false);
  assertMatch(last(image, "USER"), new RegExp(`^[1-9]\\d*:${spec.securityContext.fsGroup}$`));
});

// There is no engine here that could build it: what it copies and what it runs is copied and run without one.
Deno.test("examples/service: the container's files are enough for its server and its health check", async () => {
  const image = await example("service/deploy/Containerfile");
  await using folder = await Folder.make();
  const home = `${folder.path}/examples/service`;
  await Deno.mkdir(`${folder.path}/data`);
  await Deno.mkdir(home, { recursive: true });
  for (const [, paths] of image.matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
    for (const path of paths.split(" ")) await copy(path, folder.path);
  }
  const options = { cwd: home, env: { NO_COLOR: "1", WEATHER_TOKEN: TOKEN, WEATHER_LOG: `${folder.path}/data/log` } };
  const [, cached] = last(image, "RUN").match(/^deno (cache --frozen .*) && /) ?? [];
  const caching = await run(Deno.execPath(), cached.split(" "), options);
  assertEquals(caching.code, 0, caching.text);

  /** One of its command lines, here: on an address of this machine, another port, and another place for the log. */
  const here = (args: string[], port: number) => [
    ...args.slice(1).map((arg) =>
      arg.replace(/^--allow-net=.*/, "--allow-net=127.0.0.1").replace("0.0.0.0", "127.0.0.1")
        .replace("=/data", `=${folder.path}/data`)
    ),
    "--port",
    String(port),
  ];
  const entry = [...JSON.parse(last(image, "ENTRYPOINT")), ...JSON.parse(last(image, "CMD"))];
  await using server = await Program.start(Deno.execPath(), here(entry, 0), /listening on .*\n/, options);
  const port = Number((await server.hear(/:(\d+)\n/))[1]);
  const healthcheck = here(JSON.parse(last(image, "HEALTHCHECK").replace(/^.* CMD /, "")), port);
  assertEquals(await run(Deno.execPath(), healthcheck, options), { code: 0, text: 'you said {"res":"PONG"}\n' });
  await using client = await connect({ port });
  await client.call("RECORD", { place: "Oslo", degrees: 4.5 }, { meta });

  server.kill("SIGTERM");
  assertEquals((await server.status).code, 0);
  assertEquals((await run(Deno.execPath(), healthcheck, options)).code, 3);
});

async function copy(path: string, folder: string): Promise<void> {
  const { isDirectory } = await Deno.stat(root + path);
  if (!isDirectory) return await Deno.copyFile(root + path, `${folder}/${path}`);
  await Deno.mkdir(`${folder}/${path}`);
  for await (const { name } of Deno.readDir(root + path)) await copy(`${path}/${name}`, folder);
}

/**
 * The configurations of `examples/`: accepted by the programs they are for, and in agreement with packline's defaults.
 * What no program here can judge is run as far as it goes: the systemd unit and the container by their command lines.
 */

import { assert, assertEquals } from "@std/assert";
import { parseAll } from "npm:deno-std@1.4.0/yaml/mod.js";
import { readTime } from "../../cli/units.ts";
import { DEFAULT_GRACE_MS, DEFAULT_LIMITS } from "../../limits.ts";
import { example, Folder, Program, root, run, testWith } from "./programs.ts";

/** After the grace, those whose calls were cut are told, in at most half a second. */
const GRACE_SECONDS = DEFAULT_GRACE_MS / 1000;
const DRAIN_SECONDS = GRACE_SECONDS + 0.5;

/** The number behind some text, comments apart. */
function numberAfter(config: string, text: string): number {
  const [, number] = config.replaceAll(/#.*/g, "").split(text)[1]?.match(/^[ =:]*(\d+)/) ?? [];
  assert(number !== undefined, `there is no number after "${text}"`);
  return Number(number);
}

// What the programs say ----------------------------------------------------------------------------------------------

testWith(["haproxy"], "HAProxy accepts examples/haproxy", async () => {
  const { code, text } = await run("haproxy", ["-c", "-f", `${root}examples/haproxy/haproxy.cfg`]);
  assertEquals([code, text], [0, "Configuration file is valid\n"]);
});

for (
  const [folder, module] of [
    ["nginx-stream", "libnginx-mod-stream"],
    ["openresty", "libnginx-mod-http-lua"],
  ] as const
) {
  testWith(["nginx", module], `nginx accepts examples/${folder}`, async () => {
    await using prefix = await Folder.make();
    const args = ["-t", "-e", "stderr", "-p", prefix.path, "-c", `${root}examples/${folder}/nginx.conf`];
    const { code, text } = await run("nginx", args);
    assertEquals(code, 0, text);
    assert(!/\[(warn|alert|error)\]/.test(text), text);
  });
}

testWith(["systemd"], "systemd accepts examples/systemd", async () => {
  await using folder = await Folder.make();
  // As it stands it names a program and a folder that are not everywhere.
  const unit = await example("systemd/packline.service", { "/usr/bin/deno": Deno.execPath(), "/opt/packline": root });
  await folder.write("packline.service", unit);
  await folder.write("packline.socket", await example("systemd/packline.socket"));
  const units = ["packline.service", "packline.socket"].map((name) => `${folder.path}/${name}`);
  const { code, text } = await run("systemd-analyze", ["verify", "--man=no", ...units]);
  assertEquals([code, text], [0, ""]);
});

// What the figures say -----------------------------------------------------------------------------------------------

Deno.test("every drain time in examples/ is longer than --grace", async () => {
  const haproxy = await example("haproxy/haproxy.cfg");
  const nginx = await example("nginx-stream/nginx.conf");
  const unit = await example("systemd/packline.service");
  assert(numberAfter(haproxy, "hard-stop-after") > DRAIN_SECONDS);
  assert(numberAfter(nginx, "worker_shutdown_timeout") > DRAIN_SECONDS);
  assert(numberAfter(unit, "TimeoutStopSec") > numberAfter(unit, "--grace") + 0.5);
  assertEquals(numberAfter(unit, "--grace"), GRACE_SECONDS);
});

Deno.test("every balancer in examples/ waits longer than packline's idle timeout", async () => {
  const idleSeconds = DEFAULT_LIMITS.idleTimeoutMs / 1000;
  const haproxy = await example("haproxy/haproxy.cfg");
  assert(numberAfter(haproxy, "timeout client") > idleSeconds);
  assert(numberAfter(haproxy, "timeout server") > idleSeconds);
  assert(numberAfter(await example("nginx-stream/nginx.conf"), "proxy_timeout") > idleSeconds);
});

Deno.test("the systemd unit lets packline have as many connections as it allows", async () => {
  const unit = await example("systemd/packline.service");
  assert(numberAfter(unit, "LimitNOFILE") > DEFAULT_LIMITS.maxConnections);
});

// Kubernetes ---------------------------------------------------------------------------------------------------------

Deno.test("the Kubernetes objects fit each other, the image, and --grace", async () => {
  const [deployment, service] = parseAll(await example("kubernetes/packline.yaml"));
  const { selector, template } = deployment.spec;
  const { spec } = template;
  const [container] = spec.containers;
  const image = await readImage();

  assertEquals([deployment.kind, service.kind], ["Deployment", "Service"]);
  assertEquals(selector.matchLabels, template.metadata.labels);
  assertEquals(service.spec.selector, template.metadata.labels);

  const [grace, time] = container.args;
  assertEquals([grace, readTime(time)], ["--grace", DEFAULT_GRACE_MS]);
  assert(spec.terminationGracePeriodSeconds > container.lifecycle.preStop.sleep.seconds + DRAIN_SECONDS);

  const [port] = container.ports;
  assertEquals(port.containerPort, image.port);
  assertEquals(container.readinessProbe.tcpSocket.port, port.name);
  assertEquals(service.spec.ports[0].targetPort, port.name);
  assertEquals(container.livenessProbe.exec.command, image.healthcheck);
  // A Service named packline would set PACKLINE_PORT to a URL.
  assertEquals(spec.enableServiceLinks, false);
  assert(spec.securityContext.runAsNonRoot && /^\d+:/.test(image.user), "the node cannot see that it is not root");
});

// The container ------------------------------------------------------------------------------------------------------

/** A container file, as far as these tests need it. */
interface Image {
  /** Paths of the checkout that go into it. */
  copied: string[];
  user: string;
  port: number;
  healthcheck: string[];
  entrypoint: string[];
  command: string[];
}

async function readImage(): Promise<Image> {
  const text = await example("container/Containerfile");
  const instructions = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.match(/^([A-Z]+) (.*)$/)?.slice(1) ?? []);
  const all = (wanted: string) => instructions.filter(([name]) => name === wanted).map(([, rest]) => rest);
  const last = (wanted: string) => all(wanted).at(-1) ?? "";
  return {
    copied: all("COPY").filter((rest) => !rest.startsWith("--from")).flatMap((rest) => rest.split(" ").slice(0, -1)),
    user: last("USER"),
    port: Number(last("EXPOSE")),
    healthcheck: JSON.parse(last("HEALTHCHECK").replace(/^.* CMD /, "")),
    entrypoint: JSON.parse(last("ENTRYPOINT")),
    command: JSON.parse(last("CMD")),
  };
}

// There is no engine here that could build it: what it copies and what it runs is copied and run without one.
Deno.test("the container's files are enough for its server and its health check, and it is not root", async () => {
  const image = await readImage();
  assert(/^[1-9]\d*:[1-9]\d*$/.test(image.user), `the user is ${image.user}`);

  await using folder = await Folder.make();
  for (const path of image.copied) await copy(path, folder.path);
  /** One of its command lines, here: on an address of this machine, and another port. */
  const here = (args: string[], port: number) => [
    ...args.slice(1).map((arg) =>
      arg.startsWith("--allow-net=")
        ? "--allow-net=127.0.0.1"
        : arg.endsWith(".ts")
        ? `${folder.path}/${arg}`
        : arg.replace("0.0.0.0", "127.0.0.1")
    ),
    "--port",
    String(port),
  ];
  const server = await Program.start(Deno.execPath(), here([...image.entrypoint, ...image.command], 0), /listening/);
  await using _ = server;
  const port = Number((await server.hear(/:(\d+)\n/))[1]);
  const healthy = await run(Deno.execPath(), here(image.healthcheck, port));
  assertEquals(healthy, { code: 0, text: 'you said {"res":"PONG"}\n' });

  server.kill("SIGTERM");
  assertEquals((await server.status).code, 0);
  const unhealthy = await run(Deno.execPath(), here(image.healthcheck, port));
  assertEquals(unhealthy.code, 3, unhealthy.text);
});

async function copy(path: string, folder: string): Promise<void> {
  const { isDirectory } = await Deno.stat(root + path);
  if (!isDirectory) return await Deno.copyFile(root + path, `${folder}/${path}`);
  await Deno.mkdir(`${folder}/${path}`);
  for await (const { name } of Deno.readDir(root + path)) await copy(`${path}/${name}`, folder);
}

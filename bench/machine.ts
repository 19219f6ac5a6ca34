/** Describes the machine and the versions of a run, without anything that identifies the machine. */

import { versionOf } from "./process.ts";

/** The machine, the versions and the date, as a list. */
export async function machine(): Promise<string> {
  const gibibytes = Math.round(Deno.systemMemoryInfo().total / 2 ** 30);
  const lines = [
    `Date: ${new Date().toISOString().slice(0, 10)}`,
    `Machine: ${navigator.hardwareConcurrency} cores, ${cpuModel()}, ${gibibytes} GiB, ${Deno.osRelease()} (${Deno.build.os})`,
    `Deno ${Deno.version.deno} (V8 ${Deno.version.v8})`,
    `Node ${await versionOf("node", /v(\S+)/) ?? "not found"}`,
    `Redis ${await versionOf("redis-server", /v=(\S+)/) ?? "not found"}`,
    ...["@grpc/grpc-js", "@trpc/server", "capnweb", "msgpackr", "zod", "deno-std"].map(pinned),
  ];
  return lines.map((line) => `- ${line}\n`).join("");
}

function cpuModel(): string {
  try {
    return Deno.readTextFileSync("/proc/cpuinfo").match(/model name\s*:\s*(.*)/)?.[1] ?? Deno.build.arch;
  } catch {
    return Deno.build.arch;
  }
}

/** A package and its version in the lock file. */
function pinned(name: string): string {
  const lock = Deno.readTextFileSync(new URL("deno.lock", import.meta.url));
  return `${name} ${lock.match(new RegExp(`"npm:${name}@[^"]*": "([0-9.]+)`))?.[1] ?? "(unknown version)"}`;
}

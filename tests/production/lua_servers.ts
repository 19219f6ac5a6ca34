/** Servers for the tests of the OpenResty client. */

import { command, type ListeningServer, RpcError, tracked, unchecked } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";

/** A function of Lua that says a reply or a failure. */
export const TELL = `
  local function tell(reply, failure) return reply and tostring(reply.res) or failure.code .. ": " .. failure.msg end`;

/** A server that says its name. */
export function serveAs(name: string, options: Parameters<typeof serve>[0] = {}): Promise<ListeningServer> {
  const NAME = command(() => name);
  const TWO = command(async function* ({ after = 0 }: { after?: number }) {
    for (let id = after + 1; id <= 4; id++) {
      yield tracked(id, `item ${id}`);
      if (id === 2) await Promise.reject(new Error("it broke"));
    }
  });
  return serve({ port: 0, commands: { NAME, TWO }, onError: () => {}, ...options });
}

/** What became of an upload. */
interface Upload {
  items: unknown[];
  /** The code with which the stream broke off, or that it is whole. */
  end: string;
}

/** A server with commands that take and give streams, and what became of uploads. */
export async function serveStreams(
  options: Parameters<typeof serve>[0] = {},
): Promise<ListeningServer & { uploads: Upload[] }> {
  const uploads: Upload[] = [];
  const commands = {
    UPLOAD: command({
      items: unchecked<unknown>(),
      async handler(_: object, { items, signal }) {
        const upload: Upload = { items: [], end: "open" };
        uploads.push(upload);
        signal.addEventListener("abort", () => upload.end = (signal.reason as RpcError).code);
        for await (const item of items) upload.items.push(item);
        upload.end = "whole";
        return upload.items.length;
      },
    }),
    FIRST: command({
      items: unchecked<unknown>(),
      async handler(_: object, { items }) {
        for await (const item of items) return item as string;
        return null;
      },
    }),
    PAGES: command(async function* ({ after = 0 }: { after?: number }) {
      for (const [index, page] of ["one", "two", "three"].entries()) {
        if (index >= after) yield tracked(index + 1, page);
        if (index === 1 && after === 0) await Promise.reject(new Error("it broke"));
      }
    }),
    BREAKS: command(async function* () {
      yield "a";
      await Promise.resolve();
      throw new RpcError("OUT_OF_PAPER", "the tray is empty");
    }),
  };
  return Object.assign(await serve({ port: 0, commands, onError: () => {}, ...options }), { uploads });
}

/** A server whose HOLD ends at a RELEASE, or a cancel, and what became of each HOLD. */
export async function serveHolds(
  options: Parameters<typeof serve>[0] = {},
): Promise<ListeningServer & { holds: string[] }> {
  const holds: string[] = [];
  let release = () => {};
  const commands = {
    HOLD: command((_: object, { signal }) => {
      const index = holds.push("held") - 1;
      return new Promise<string>((resolve, reject) => {
        signal.addEventListener("abort", () => {
          holds[index] = signal.reason.code;
          reject(signal.reason);
        });
        release = () => {
          holds[index] = "released";
          resolve("held");
        };
      });
    }),
    RELEASE: command(() => {
      release();
      return "released";
    }),
  };
  return Object.assign(await serve({ port: 0, commands, onError: () => {}, ...options }), { holds });
}

/** How many connections a server has had. */
export const accepted = (server: ListeningServer) => server.statistics().connections.accepted;

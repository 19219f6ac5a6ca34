/** A client whose servers are found by name: real servers, real connections, and a name server of the test's own. */

import { assertEquals, assertRejects } from "@std/assert";
import { command, connect, dnsServers, serve } from "../../mod.ts";
import { RpcError } from "../../errors.ts";
import { systemClock } from "../../transport/clock.ts";
import { DnsServer } from "../support/dns_server.ts";
import { turn } from "../support/fake_clock.ts";

const SERVICE = "_packline._tcp.example.com";

function named(name: string) {
  return serve({ port: 0, commands: { WHO: command(() => name) } });
}

function records(...ports: number[]) {
  return { SRV: ports.map((port) => ({ priority: 0, weight: 0, port, target: "localhost." })) };
}

/** The system's clock, which a test may put forward. */
function adjustableClock() {
  let aheadMs = 0;
  return { ...systemClock, now: () => systemClock.now() + aheadMs, forward: (ms: number) => aheadMs += ms };
}

Deno.test("connect({ servers: dnsServers() }) - servers come and go with the records; a failing lookup changes nothing", async () => {
  await using dns = await DnsServer.start();
  await using one = await named("one");
  await using other = await named("other");
  dns.names.set(SERVICE, records(one.port));
  const clock = adjustableClock();
  const servers = dnsServers({ service: SERVICE, nameServer: dns.nameServer });
  await using client = await connect({ servers, clock });
  assertEquals(await client.call("WHO"), "one");

  /** Calls until the client has asked again, and knows so many servers. */
  const callUntil = async (isOver: () => boolean): Promise<void> => {
    const { queries } = dns;
    clock.forward(31_000);
    while (dns.queries === queries || !isOver()) {
      await client.call("WHO");
      await turn();
    }
  };
  const addresses = () => client.servers.map(({ address }) => address);

  dns.names.set(SERVICE, records(one.port, other.port));
  await callUntil(() => client.servers.length === 2 && client.servers.every(({ state }) => state === "open"));
  // By the clock, the first server was silent for long: until its connection is checked, it gets no calls.
  while (await client.call("WHO") !== "one") await turn();
  const answers = await Promise.all(Array.from({ length: 10 }, () => client.call("WHO")));
  assertEquals(new Set(answers), new Set(["one", "other"]));

  dns.names.delete(SERVICE);
  await callUntil(() => true);
  await client.call("WHO");
  assertEquals(addresses(), [one.port, other.port].sort().map((port) => `localhost:${port}`));

  dns.names.set(SERVICE, records(other.port));
  await callUntil(() => client.servers.length === 1);
  assertEquals(await client.call("WHO"), "other");
});

Deno.test("connect({ servers: dnsServers() }) - a name without servers is said at once, by name", async () => {
  await using dns = await DnsServer.start();
  const servers = dnsServers({ hostname: "gone.example.com", nameServer: dns.nameServer });
  const error = await assertRejects(() => connect({ servers }), RpcError, "gone.example.com");
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
});

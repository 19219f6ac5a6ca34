import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { dnsServers } from "../../transport/address.ts";
import { DnsServer } from "../support/dns_server.ts";

Deno.test("dnsServers() - every address of a name is a server, IPv4 and IPv6", async () => {
  await using dns = await DnsServer.start();
  const { nameServer } = dns;
  dns.names.set("api.example.com", { A: ["10.0.0.2", "10.0.0.1"], AAAA: ["2001:db8::1"] });
  const servers = dnsServers({ hostname: "api.example.com", port: 9000, nameServer });
  assertEquals(await servers(), ["10.0.0.1:9000", "10.0.0.2:9000", "[2001:db8::1]:9000"]);
  const usual = dnsServers({ hostname: "api.example.com", nameServer });
  assertEquals((await usual())[0], "10.0.0.1:1235");
});

Deno.test("dnsServers() - a name with other letters is asked for as the DNS has it", async () => {
  await using dns = await DnsServer.start();
  dns.names.set("xn--mnchen-3ya.example", { A: ["10.0.0.3"] });
  const servers = dnsServers({ hostname: "münchen.example", port: 1, nameServer: dns.nameServer });
  assertEquals(await servers(), ["10.0.0.3:1"]);
});

Deno.test("dnsServers() - it asks each time, and sees servers come and go", async () => {
  await using dns = await DnsServer.start();
  const servers = dnsServers({ hostname: "api.example.com", port: 1, nameServer: dns.nameServer });
  for (const addresses of [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]]) {
    dns.names.set("api.example.com", { A: addresses });
    assertEquals(await servers(), addresses.map((address) => `${address}:1`));
  }
});

Deno.test("dnsServers() - one kind of address is enough, even if the other cannot be asked for", async () => {
  await using dns = await DnsServer.start();
  const { nameServer } = dns;
  dns.names.set("four.example.com", { A: ["10.0.0.1"] });
  dns.names.set("six.example.com", { AAAA: ["::1"] });
  assertEquals(await dnsServers({ hostname: "four.example.com", nameServer })(), ["10.0.0.1:1235"]);
  assertEquals(await dnsServers({ hostname: "six.example.com", nameServer })(), ["[::1]:1235"]);
  dns.broken = ["AAAA"];
  assertEquals(await dnsServers({ hostname: "four.example.com", nameServer })(), ["10.0.0.1:1235"]);
});

Deno.test("dnsServers() - the records of a service hold hosts and ports; the best priority counts", async () => {
  await using dns = await DnsServer.start();
  dns.names.set("_packline._tcp.example.com", {
    SRV: [
      { priority: 10, weight: 1, port: 1235, target: "b.example.com." },
      { priority: 20, weight: 1, port: 1235, target: "spare.example.com." },
      { priority: 10, weight: 9, port: 1236, target: "a.example.com." },
    ],
  });
  const servers = dnsServers({ service: "_packline._tcp.example.com", nameServer: dns.nameServer });
  assertEquals(await servers(), ["a.example.com:1236", "b.example.com:1235"]);
});

Deno.test("dnsServers() - more records than a datagram holds come over TCP", async () => {
  await using dns = await DnsServer.start();
  const addresses = Array.from({ length: 200 }, (_, index) => `10.0.0.${index}`);
  dns.names.set("many.example.com", { A: addresses });
  const servers = await dnsServers({ hostname: "many.example.com", port: 1, nameServer: dns.nameServer })();
  assertEquals(new Set(servers), new Set(addresses.map((address) => `${address}:1`)));
});

Deno.test("dnsServers() - a name without servers is said by name, with what to do", async () => {
  await using dns = await DnsServer.start();
  const { nameServer } = dns;
  const failure = async (options: Parameters<typeof dnsServers>[0]) => {
    const error = await assertRejects(dnsServers({ ...options, nameServer }), RpcError);
    assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
    return error.message;
  };
  assertEquals(
    await failure({ hostname: "gone.example.com" }),
    "CONNECTION_LOST: cannot find the servers of gone.example.com: " +
      "the name server has no addresses (A or AAAA records) for this name; is the name right?",
  );
  assertEquals(
    await failure({ service: "_gone._tcp.example.com" }),
    "CONNECTION_LOST: cannot find the servers of _gone._tcp.example.com: " +
      "the name server has no SRV records for this name; is the name right?",
  );
  dns.names.set("_none._tcp.example.com", { SRV: [{ priority: 0, weight: 0, port: 0, target: "." }] });
  assertStringIncludes(await failure({ service: "_none._tcp.example.com" }), "no SRV records");
  dns.broken = ["A", "AAAA"];
  assertStringIncludes(await failure({ hostname: "gone.example.com" }), "no addresses");
  assertStringIncludes(await failure({ hostname: "a..example.com" }), "the lookup failed: Malformed label");
});

Deno.test({
  name: "dnsServers() - a missing permission is the program's mistake, and the text says what is missing",
  permissions: { net: false },
  async fn() {
    const servers = dnsServers({ hostname: "api.example.com", nameServer: { ipAddr: "127.0.0.1", port: 9 } });
    const error = await assertRejects(servers, Deno.errors.NotCapable);
    assertStringIncludes(error.message, "Cannot look up api.example.com");
    assertStringIncludes(error.message, "--allow-net");
  },
});

Deno.test("dnsServers() - it takes a host or a service, and not both", () => {
  for (
    const options of [{}, { port: 1 }, { hostname: "a", service: "b" }, { service: "b", port: 1 }, { hostname: "" }]
  ) {
    assertThrows(() => dnsServers(options), TypeError, undefined, JSON.stringify(options));
  }
  assertThrows(() => dnsServers({ hostname: "a", port: 70_000 }), RangeError, "port");
  assertThrows(() => dnsServers({ hostname: "a", nameServer: "10.0.0.2" as never }), TypeError, "ipAddr");
  const error = assertThrows(() => dnsServers({}), TypeError);
  assert(/either a hostname and a port, or a service/.test(error.message), error.message);
});

/** TLS of the OpenResty client: in nginx; under plain LuaJIT it is refused. */

import { assertEquals, assertMatch } from "@std/assert";
import { command } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import { Certificates } from "./certificates.ts";
import { LUAJIT_PACKAGES, NGINX_PACKAGES, startLua } from "./lua.ts";
import { serveAs, TELL } from "./lua_servers.ts";
import { example, root, run, testWith } from "./programs.ts";

/** The handshake can be over at once, and nginx does not say why then. */
const UNTRUSTED =
  /^CONNECTION_LOST: cannot reach 127\.0\.0\.1:\d+: TLS: (certificate host mismatch|2\d: unable to .*|the certificate is not for .*)$/;

testWith(
  [...NGINX_PACKAGES, "openssl"],
  "in nginx, TLS verifies the server, and shows the client's certificate",
  async () => {
    await using certificates = await Certificates.begin();
    const authority = await certificates.selfSigned({ subject: "/CN=authority" });
    const stranger = await certificates.selfSigned({ subject: "/CN=stranger" });
    const names = "DNS:localhost,DNS:packline.internal";
    const { cert, key } = await certificates.signedBy(authority, { names });
    const ada = await certificates.signedBy(authority, { subject: "/CN=ada" });
    const mallory = await certificates.selfSigned({ subject: "/CN=mallory" });
    const WHO = command((_: object, { certificate }) => certificate?.subject ?? "nobody");
    await using open = await serve({ port: 0, tls: { cert, key }, commands: { WHO } });
    await using mutual = await serve({
      port: 0,
      tls: { cert, key, ca: authority.cert },
      commands: { WHO },
      onError: () => {},
    });
    await using plain = await serveAs("plain");
    const pem = ({ cert, key }: { cert: string; key: string }) => `cert = [[${cert}]], key = [[${key}]]`;
    const server = `location / {
      content_by_lua_block {
        ${TELL}
        local packline = require "resty.packline"
        local function client(port, tls) return packline.new { port = port, tls = tls, timeout = 2000, bytes_max = 1000000 } end
        local function say(...) ngx.say(tell(...)) end
        say(client(${open.port}, { server_name = "localhost" }):call("WHO"))
        say(client(${open.port}, { server_name = "localhost" }):call("WHO"))
        say(packline.new { servers = { "localhost:${open.port}" }, tls = true }:call("WHO"))
        say(client(${open.port}, { server_name = "elsewhere" }):call("WHO"))
        say(client(${mutual.port}, { server_name = "packline.internal", ${pem(ada)} }):call("WHO"))
        say(client(${mutual.port}, { server_name = "packline.internal", ${pem(mallory)} }):call("WHO"))
        say(client(${mutual.port}, { server_name = "packline.internal" }):call("WHO"))
        say(client(${plain.port}, { server_name = "localhost" }):call("WHO"))
        say(packline.new { port = ${open.port}, timeout = 500 }:call("WHO"))
        local echo, size = client(${open.port}, { server_name = "localhost" }):stream("ECHO", {}, {
          items = { ("x"):rep(500000), "y" },
        }), 0
        for item in echo do size = size + #item end
        ngx.say(size)
        for _, tls in ipairs { true, { cert = "x", key = "x", server_name = "a" }, { cert = "x", server_name = "a" } } do
          ngx.say((select(2, pcall(client, 1, tls)):gsub("^.-:%d+: ", "")))
        end
      }
    }`;
    const trusting = async (ca: string) => {
      await using owned = new AsyncDisposableStack();
      const http = `lua_ssl_trusted_certificate ${ca}; resolver 127.0.0.1:1;`;
      const hosts = server.replace(`servers = { "localhost:${open.port}" }`, `servers = { "127.0.0.1:${open.port}" }`)
        .replace("tls = true }:call", `tls = { server_name = "localhost" } }:call`);
      const { url } = await startLua(owned, hosts, { http });
      return (await (await fetch(url)).text()).trimEnd().split("\n");
    };

    const said = await trusting(authority.certPath);
    assertEquals(said.slice(0, 3), ["nobody", "nobody", "nobody"]);
    assertMatch(said[3], UNTRUSTED);
    assertEquals(said[4], "CN=ada");
    assertMatch(said[5], /^CONNECTION_LOST: /);
    assertMatch(said[6], /^CONNECTION_LOST: /);
    assertMatch(said[7], /^CONNECTION_LOST: cannot reach 127\.0\.0\.1:\d+: TLS: /);
    assertMatch(said[8], /^(CONNECTION_LOST|TIMEOUT|BAD_REPLY): /);
    assertEquals(said.slice(9), [
      "500001",
      "tls.server_name must say which name the certificate has: 127.0.0.1:1 is not a name",
      "tls.cert is not a certificate as PEM text: PEM_read_bio_X509_AUX() failed",
      "tls.cert and tls.key go together",
    ]);
    assertEquals(open.statistics().connections.accepted >= 3, true);
    const untrusted = await trusting(stranger.certPath);
    assertMatch(untrusted[0], UNTRUSTED);
  },
);

testWith([...NGINX_PACKAGES, "openssl"], "the TLS of examples/openresty/README.md works as it stands", async () => {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned({ subject: "/CN=authority" });
  const { cert, key } = await certificates.signedBy(authority);
  const ada = await certificates.signedBy(authority, { subject: "/CN=ada" });
  await using open = await serveAs("a", { tls: { cert, key } });
  await using mutual = await serveAs("b", { tls: { cert, key, ca: authority.cert } });
  const readme = await example("openresty/README.md");
  const [, config] = readme.match(/^```nginx\n(lua_ssl_[^]*?)^```$/m) ?? [];
  const [, sample] = readme.match(/^```lua tls\n([^]*?)^```$/m) ?? [];
  const replacements = {
    "1235": open.port,
    "1236": mutual.port,
    "client.pem": ada.certPath,
    "client.key": ada.keyPath,
    "/etc/packline/ca.pem": authority.certPath,
  };
  const replaced = (text: string) =>
    Object.entries(replacements).reduce((text, [from, to]) => text.replace(from, String(to)), text);
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block { local print, packline = ngx.say, require "resty.packline" ${replaced(sample)} }
    }`,
    { http: replaced(config) },
  );
  assertEquals(await (await fetch(url)).text(), "PONG\nPONG\n");
});

testWith(LUAJIT_PACKAGES, "under LuaJIT, TLS is refused when the client is made", async () => {
  const code = `package.path = "${root}examples/openresty/lib/?.lua;" .. package.path
    print(pcall(require("resty.packline").new, { tls = true }))`;
  const { text } = await run("luajit", ["-e", code]);
  assertMatch(text, /^false\t.*tls works in nginx only: LuaSec does not check the name in a certificate\n$/);
});

/** Shared by the Deno servers of the benchmark, except packline: a listener, and its port as a line on stdout. */

/** Serves every connection. A connection that fails does not end the others. */
export async function listen(serve: (conn: Deno.TcpConn) => Promise<void>): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(listener.addr.port);
  while (true) {
    const conn = await listener.accept();
    conn.setNoDelay(true);
    serve(conn).catch(() => {});
  }
}

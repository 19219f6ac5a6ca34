/** What the Deno servers of the bench share, packline's excepted: a listener, and its port as a line on stdout. */

/** Serves every connection; a connection that fails ends alone. */
export async function listen(serve: (conn: Deno.TcpConn) => Promise<void>): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(listener.addr.port);
  while (true) {
    const conn = await listener.accept();
    conn.setNoDelay(true);
    serve(conn).catch(() => {});
  }
}

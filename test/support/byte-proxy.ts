/** A TCP proxy on loopback that cuts whole connections after so many bytes, whatever they carry. */

export interface ByteProxy {
  readonly url: string;
  /** Connections taken so far. */
  readonly connections: number;
  close(): void;
}

interface Link {
  left: number;
  /** What the client sent before the service was connected. */
  early: Buffer[];
  service: Bun.Socket<undefined> | null;
}

/**
 * @param cuts for the first connections, one after the other, how many bytes of the service come through before
 * the connection is cut; later ones are left alone
 */
export function startByteProxy(servicePort: number, cuts: number[]): ByteProxy {
  let connections = 0;
  const server = Bun.listen<Link>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(client) {
        client.data = { left: cuts[connections] ?? Number.POSITIVE_INFINITY, early: [], service: null };
        connections++;
        void connect(client, servicePort);
      },
      data({ data: { service, early } }, bytes) {
        if (service === null) early.push(Buffer.from(bytes));
        else service.write(bytes);
      },
      close: ({ data: { service } }) => void service?.end(),
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    get connections() {
      return connections;
    },
    close: () => server.stop(true),
  };
}

async function connect(client: Bun.Socket<Link>, port: number): Promise<void> {
  const link = client.data;
  link.service = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(service, bytes) {
        client.write(bytes.subarray(0, link.left));
        link.left -= bytes.length;
        if (link.left > 0) return;
        client.end();
        service.terminate();
      },
      close: () => void client.end(),
    },
  });
  for (const bytes of link.early) link.service.write(bytes);
}

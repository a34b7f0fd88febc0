/** A name server that knows one name, as Docker's knows a service by all of its containers (RFC 1035, section 4). */

export interface NameServer {
  readonly port: number;
  /** What the name leads to from now on. */
  addresses: readonly string[];
  close(): void;
}

const headerBytes = 12;
const typeA = 1;

export async function startNameServer(addresses: readonly string[]): Promise<NameServer> {
  const known = { addresses };
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data(socket, query, port, address) {
        socket.send(answerTo(Buffer.from(query), known.addresses), port, address);
      },
    },
  });
  return Object.assign(known, { port: socket.port, close: () => socket.close() });
}

/** Whatever name is asked for: IPv4 addresses, valid for a second, and of other types none. */
function answerTo(query: Buffer, addresses: readonly string[]): Buffer {
  const nameEnd = query.indexOf(0, headerBytes) + 1;
  const question = query.subarray(headerBytes, nameEnd + 4);
  const answers = query.readUInt16BE(nameEnd) === typeA ? addresses : [];
  const header = Buffer.alloc(headerBytes);
  query.copy(header, 0, 0, 2);
  // An answer, recursion asked for and available; one question.
  header.writeUInt16BE(0x8180, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(answers.length, 6);
  // The name is that of the question; type A, class IN, a second, four bytes.
  const fixed = [0xc0, headerBytes, 0, typeA, 0, 1, 0, 0, 0, 1, 0, 4];
  const records = answers.map((address) => Buffer.from([...fixed, ...address.split(".").map(Number)]));
  return Buffer.concat([header, question, ...records]);
}

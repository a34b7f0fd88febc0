/** A client that takes little at a time, with a small buffer, so that the sender feels it. Linux only. */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { closeSync, readSync, writeSync } from "node:fs";

const { symbols } = dlopen("libc.so.6", {
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  setsockopt: {
    args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i32,
  },
  connect: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  fcntl: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
});
const [inet, stream, solSocket, soRcvbuf, setFlags, nonBlocking] = [2, 1, 1, 8, 4, 0o4000];
/** The least that Linux takes; it lets a few kilobytes wait then. */
const smallBytes = 2048;
const largeBytes = 1024 * 1024;

export interface SlowReader {
  write(bytes: string): void;
  /** Takes what is there, up to so many bytes. */
  read(bytesMax: number): void;
  /** From now on as much may wait as with any other client. */
  hurry(): void;
  readonly received: Buffer;
  /** Whether the other side has closed the connection, and all it sent was read. */
  readonly ended: boolean;
  close(): void;
}

/** Connects to a port of 127.0.0.1. */
export function connectSlowly(port: number): SlowReader {
  const socket = symbols.socket(inet, stream, 0);
  const setBuffer = (bytes: number): void =>
    void symbols.setsockopt(socket, solSocket, soRcvbuf, ptr(new Int32Array([bytes])), 4);
  setBuffer(smallBytes);
  // struct sockaddr_in: family, port, 127.0.0.1
  const address = new Uint8Array([inet, 0, port >> 8, port & 0xff, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (symbols.connect(socket, ptr(address), address.length) !== 0) throw new Error("connect failed");
  symbols.fcntl(socket, setFlags, nonBlocking);
  const chunks: Buffer[] = [];
  let ended = false;
  return {
    write: (bytes) => void writeSync(socket, bytes),
    read(bytesMax) {
      const buffer = Buffer.alloc(bytesMax);
      try {
        const size = readSync(socket, buffer, 0, bytesMax, null);
        if (size === 0) ended = true;
        else chunks.push(buffer.subarray(0, size));
      } catch (error) {
        // Nothing is there yet.
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      }
    },
    hurry: () => setBuffer(largeBytes),
    get received() {
      return Buffer.concat(chunks);
    },
    get ended() {
      return ended;
    },
    close: () => closeSync(socket),
  };
}

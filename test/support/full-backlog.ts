/** A port where connections hang, as behind a firewall that drops packets: it listens, but nobody accepts. */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { connect, type Socket } from "node:net";

/** Linux only. The kernel drops further connections once the queue of unaccepted ones is full. */
export async function startFullBacklog(): Promise<{ port: number; close(): void }> {
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
    listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    getsockname: { args: [FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
    close: { args: [FFIType.i32], returns: FFIType.i32 },
  });
  const [inet, stream] = [2, 1];
  const listener = symbols.socket(inet, stream, 0);
  // struct sockaddr_in: family, port 0 for any, 127.0.0.1
  const address = new Uint8Array([inet, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (symbols.bind(listener, ptr(address), address.length) !== 0) throw new Error("bind failed");
  if (symbols.listen(listener, 0) !== 0) throw new Error("listen failed");
  symbols.getsockname(listener, ptr(address), ptr(new Uint32Array([address.length])));
  const port = (address[2]! << 8) | address[3]!;
  const waiting: Socket[] = [];
  for (let filler = 0; filler < 4; filler++)
    waiting.push(connect({ host: "127.0.0.1", port }).on("error", () => {}));
  await Bun.sleep(50);
  return {
    port,
    close() {
      for (const socket of waiting) socket.destroy();
      symbols.close(listener);
    },
  };
}

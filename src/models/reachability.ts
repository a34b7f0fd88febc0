/** Tells a connection that hangs from a server that is only slow to answer. */
import { connect } from "node:net";

/**
 * Whether a TCP connection to the address hangs for `seconds`. One that is refused doesn't hang: the request
 * that waits for the same address fails by itself. Never throws.
 */
export function hangs({ hostname, port, protocol }: URL, seconds: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({
      host: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port) || (protocol === "https:" ? 443 : 80),
    });
    const answer = (hanging: boolean) => () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(hanging);
    };
    const timer = setTimeout(answer(true), seconds * 1000);
    socket.on("connect", answer(false));
    socket.on("error", answer(false));
  });
}

/** Which address a request comes from. */
import { isIP } from "node:net";

/**
 * The client's address: the socket's, or what the trusted proxies say. Each appends to X-Forwarded-For whom it got the
 * request from, so the entry of the outermost one is so many from the right, and what stands before it is anybody's claim.
 * @param socket the address of the connection
 * @param forwardedFor the header, null where there is none
 * @param trustedProxies how many of them stand between client and service
 * @returns an IPv4 address, or the network of an IPv6 one, of which a client has billions
 */
export function clientAddress(socket: string, forwardedFor: string | null, trustedProxies: number): string {
  const hops = trustedProxies === 0 || forwardedFor === null ? [] : forwardedFor.split(",");
  const told = hops.at(-Math.min(trustedProxies, hops.length))?.trim() ?? "";
  const address = withoutPort(told);
  return networkOf(isIP(address) === 0 ? socket : address);
}

/** Some proxies write `1.2.3.4:567` and `[2001:db8::1]:567`. */
const withoutPort = (host: string): string =>
  /^\[([^\]]*)\](?::\d+)?$/.exec(host)?.[1] ?? /^([\d.]+):\d+$/.exec(host)?.[1] ?? host;

function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (isIP(address) !== 6) return address;
  // The URL parser writes an address in its one canonical form.
  const canonical = new URL(`http://[${address.split("%")[0]}]`).hostname.slice(1, -1);
  const [head = "", tail] = canonical.split("::");
  const parts = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const missing = tail === undefined ? 0 : 8 - parts.length - after.length;
  return `${[...parts, ...Array<string>(missing).fill("0"), ...after].slice(0, 4).join(":")}::/64`;
}

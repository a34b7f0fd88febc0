/** Which address is a client's: nobody's claim is believed but that of the trusted proxies. */
import { expect, test } from "bun:test";
import { clientAddress } from "../../src/limits/address.ts";

test.each([
  ["192.0.2.1", null, 0, "192.0.2.1"],
  ["192.0.2.1", "198.51.100.7", 0, "192.0.2.1"],
  ["192.0.2.1", "198.51.100.7", 1, "198.51.100.7"],
  ["192.0.2.1", "6.6.6.6, 198.51.100.7", 1, "198.51.100.7"],
  ["192.0.2.1", "6.6.6.6, 198.51.100.7, 10.0.0.1", 2, "198.51.100.7"],
  // Fewer hops than proxies: the farthest that one of them told.
  ["192.0.2.1", "198.51.100.7", 3, "198.51.100.7"],
  ["192.0.2.1", null, 2, "192.0.2.1"],
  ["192.0.2.1", "", 1, "192.0.2.1"],
  ["192.0.2.1", "unknown", 1, "192.0.2.1"],
  ["192.0.2.1", "198.51.100.7:4711", 1, "198.51.100.7"],
  ["192.0.2.1", "[2001:db8:1:2:3::4]:4711", 1, "2001:db8:1:2::/64"],
  ["192.0.2.1", "2001:DB8:1:2:ffff:ffff:ffff:ffff", 1, "2001:db8:1:2::/64"],
  ["2001:db8::1", null, 0, "2001:db8:0:0::/64"],
  ["::1", null, 0, "0:0:0:0::/64"],
  ["::ffff:192.0.2.9", null, 0, "192.0.2.9"],
  ["fe80::1%eth0", null, 0, "fe80:0:0:0::/64"],
  ["unknown", null, 0, "unknown"],
] as const)(
  "the socket's %s, forwarded for %p by %p trusted proxies, is %s",
  (socket, header, proxies, expected) => {
    expect(clientAddress(socket, header, proxies)).toBe(expected);
  },
);

/** Tickets open one turn's stream to a plain `EventSource`, which can send no key. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { TurnRecord } from "../storage/store.ts";

/** A ticket works while its turn runs and so long after. */
const validAfterEndSeconds = 3600;

export class Tickets {
  /** @param secret shared by all instances */
  constructor(readonly secret: string) {}

  /** The ticket of a turn: its HMAC-SHA256 (RFC 2104). It holds no time; the turn's end limits it. */
  sign(turnId: string): string {
    return createHmac("sha256", this.secret).update(`stream ${turnId}`).digest("base64url");
  }

  /** Whether a ticket is this turn's. */
  verify(turnId: string, ticket: string): boolean {
    const expected = Buffer.from(this.sign(turnId));
    const given = Buffer.from(ticket);
    return given.byteLength === expected.byteLength && timingSafeEqual(given, expected);
  }

  /** Whether tickets of this turn still work. */
  static isOpen({ ended_at }: TurnRecord, nowSeconds: number): boolean {
    return ended_at === null || nowSeconds <= ended_at + validAfterEndSeconds;
  }
}

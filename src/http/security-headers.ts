/** What every answer tells browsers, whatever it is; pages have a Content-Security-Policy of their own beside it. */
export const securityHeaders = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
} as const;

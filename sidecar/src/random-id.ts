/** The global crypto is loaded at its first use, which the start of a sandbox does not wait for; `node:crypto` would be at import. */
export const randomId = (): string => crypto.randomUUID().replaceAll('-', '').slice(0, 16)

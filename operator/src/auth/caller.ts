// Who asks, and what they may do.
import { type Access, Failure, keyScopes } from '@atoll/protocol'
import { isAddress } from './ethereum.ts'

export type Scope = (typeof keyScopes)[number]

export interface Caller {
  /** Sees what belongs to this owner; an admin sees everything. */
  readonly owner: string
  readonly scope: Scope
  readonly via: 'session' | 'key'
  /** Of the session or key. */
  readonly id: string
  /** Unix milliseconds; undefined: the credential does not end by itself. */
  readonly expiresAt?: number | undefined
}

/**
 * The spelling of an owner that is kept and compared: addresses are the same in any case, other names are not.
 */
export const canonicalOwner = (owner: string): string => (isAddress(owner) ? owner.toLowerCase() : owner)

export const isSameOwner = (one: string, other: string): boolean => canonicalOwner(one) === canonicalOwner(other)

/**
 * The token of an `Authorization: Bearer` header.
 * @throws Failure `auth.missing`, `auth.invalid`
 */
export function bearerToken(header: string | undefined): string {
  if (header === undefined || header.trim() === '') throw new Failure('auth.missing', 'Missing Authorization header')
  const [scheme, token, ...rest] = header.trim().split(/\s+/)
  if (scheme?.toLowerCase() !== 'bearer' || !token || rest.length > 0) {
    throw new Failure('auth.invalid', 'Invalid Authorization header format')
  }
  return token
}

const needed: Record<Exclude<Access, 'public'>, readonly Scope[]> = {
  read: keyScopes,
  write: ['owner', 'admin'],
  admin: ['admin'],
}

/** @throws Failure `auth.missing`, `auth.forbidden` */
export function authorize(caller: Caller | undefined, access: Access): void {
  if (access === 'public') return
  if (!caller) throw new Failure('auth.missing', 'Missing Authorization header')
  if (needed[access].includes(caller.scope)) return
  throw new Failure('auth.forbidden', `This needs a credential of scope ${needed[access].join(' or ')}; yours has scope ${caller.scope}.`)
}

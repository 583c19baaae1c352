// The ports of auth, kept in memory; for tests that do not need the database.
import type { ApiKeyRecord, ApiKeyStore } from '../api-keys.ts'
import type { SessionStore } from '../session.ts'

export class MemoryApiKeys implements ApiKeyStore {
  readonly keys = new Map<string, ApiKeyRecord>()

  async insert(key: ApiKeyRecord): Promise<void> {
    this.keys.set(key.id, key)
  }

  async get(id: string): Promise<ApiKeyRecord | undefined> {
    return this.keys.get(id)
  }

  async findByHash(hash: string): Promise<ApiKeyRecord | undefined> {
    return [...this.keys.values()].find((key) => key.hash === hash)
  }

  async list(owner: string | undefined): Promise<ApiKeyRecord[]> {
    return [...this.keys.values()].filter((key) => owner === undefined || key.owner === owner).reverse()
  }

  async madeBy(id: string): Promise<ApiKeyRecord[]> {
    return [...this.keys.values()].filter((key) => key.madeBy === id)
  }

  async remove(id: string): Promise<void> {
    this.keys.delete(id)
  }

  async setLastUsed(id: string, lastUsedAt: number): Promise<void> {
    const key = this.keys.get(id)
    if (key) this.keys.set(id, { ...key, lastUsedAt })
  }
}

export class MemorySessions implements SessionStore {
  readonly revoked = new Map<string, number>()

  async isRevoked(id: string): Promise<boolean> {
    return this.revoked.has(id)
  }

  async revoke(id: string, expiresAt: number): Promise<void> {
    this.revoked.set(id, expiresAt)
  }

  async prune(now: number): Promise<void> {
    for (const [id, expiresAt] of this.revoked) if (expiresAt < now) this.revoked.delete(id)
  }
}

// The pictures generated in this browser, newest first, in IndexedDB: {id, blob, settings, time}.

const KEPT = 200;

const database = new Promise((resolve, reject) => {
  const open = indexedDB.open("daybreak", 1);
  open.onupgradeneeded = () => open.result.createObjectStore("pictures", { keyPath: "id", autoIncrement: true });
  open.onsuccess = () => resolve(open.result);
  open.onerror = () => reject(open.error);
});

async function store(mode, work) {
  const transaction = (await database).transaction("pictures", mode);
  const request = work(transaction.objectStore("pictures"));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

export async function all() {
  return (await store("readonly", (pictures) => pictures.getAll())).reverse();
}

/** Adds a picture and lets the oldest go; returns it with its id. */
export async function add(picture) {
  const id = await store("readwrite", (pictures) => pictures.add(picture));
  const ids = await store("readonly", (pictures) => pictures.getAllKeys());
  for (const old of ids.slice(0, -KEPT)) await remove(old);
  return { ...picture, id };
}

export const remove = (id) => store("readwrite", (pictures) => pictures.delete(id));
export const clear = () => store("readwrite", (pictures) => pictures.clear());

"""By ProcessPoolExecutor."""
import concurrent.futures
import multiprocessing

import stock

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        print("price", pool.submit(stock.price, "bread").result(), flush=True)

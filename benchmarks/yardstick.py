"""Yardstick: the reference experiment in its plain form (DataLoader, folds in sequence). Prints
accuracy and seconds.
"""

import sys
import time

import pandas as pd
import torch
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def network():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(1024, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
        nn.LogSoftmax(dim=1),
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return net


def main(path, seed=0):
    table = pd.read_csv(path, header=None)
    if not str(table.iloc[0, 0]).lstrip("-").isdigit():
        table = table.iloc[1:]
    table = table.astype(int).to_numpy()
    x, y = StandardScaler().fit_transform(table[:, :64]), table[:, 64]
    x = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(y)
    torch.manual_seed(seed)
    start, correct = time.perf_counter(), 0
    for train, test in KFold(4, shuffle=True, random_state=30).split(x):
        batches = DataLoader(TensorDataset(x[train], y[train]), batch_size=64, shuffle=True)
        held_out = DataLoader(TensorDataset(x[test], y[test]), batch_size=64)
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
        net.train()
        for _ in range(10):
            for images, labels in batches:
                optimizer.zero_grad()
                loss = nn.functional.nll_loss(net(images), labels)
                loss.backward()
                optimizer.step()
                loss.item()
            schedule.step()
        net.eval()
        with torch.no_grad():
            correct += sum(
                (net(images).argmax(1) == labels).sum().item() for images, labels in held_out
            )
    seconds = time.perf_counter() - start
    print(
        f"correct {correct}/{len(y)} accuracy {100 * correct / len(y):.2f} % seconds {seconds:.2f}"
        f" threads {torch.get_num_threads()}"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
